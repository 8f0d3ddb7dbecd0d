"""The simulator as a server and as a process."""
