"""From raw files to batches: one interaction table, its readers, splits, simulator and sequences."""
