"""``python -m specserver``: the command line."""

from .cli import main

main()
