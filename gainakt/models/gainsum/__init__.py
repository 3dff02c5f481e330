"""GainSum, whose prediction is an exact sum of signed gains."""
