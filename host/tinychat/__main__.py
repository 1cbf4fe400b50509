"""`python -m tinychat`."""

from .cli import main

main()
