"""Telnyx's answers, read and judged."""
