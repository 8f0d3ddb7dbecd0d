"""Threads of a worker process: sweeper, watchdog, CPU affinity."""
