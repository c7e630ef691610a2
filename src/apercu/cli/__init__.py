"""The command line: thin faces over the interface in Python and over the tasks."""

from apercu.cli.app import main

__all__ = ["main"]
