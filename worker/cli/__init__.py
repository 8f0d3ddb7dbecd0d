"""The command line: `worker`, or `python -m worker`."""

from worker.cli.app import main

__all__ = ["main"]
