"""The command line."""

from gainakt.cli.main import main

__all__ = ["main"]
