"""What is minimised, as pure functions of the specification's formulas."""
