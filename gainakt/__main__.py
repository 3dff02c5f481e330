"""`python -m gainakt`: the command line."""

from gainakt.cli import main

main()
