"""`worker doctor` and its checks, one module a check."""
