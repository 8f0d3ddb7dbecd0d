"""Commands for producers: send, dry run, wait for outcomes."""
