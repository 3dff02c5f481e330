"""From raw files to batches: one interaction table, readers, splits, simulator, sequences."""
