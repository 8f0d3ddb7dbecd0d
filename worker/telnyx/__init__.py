"""The HTTP side of Telnyx: no hidden retries, one deadline per call."""
