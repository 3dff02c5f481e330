"""The version of GainAKT."""

__version__ = "0.1.0"
