"""What is measured, of a model's predictions and of what it says besides."""
