"""A run, or several, drawn on one page."""
