"""Knowledge tracing that anyone can reproduce, with predictions that explain themselves."""

__version__ = "0.1.0"
