"""Test kits for other projects: cases for authors of channels, a service for producers' tests."""

from contextlib import suppress

# The cases of a channel run under unittest as well, where pytest is not installed.
with suppress(ModuleNotFoundError):
    from worker.testing.producers import sandbox as sandbox
