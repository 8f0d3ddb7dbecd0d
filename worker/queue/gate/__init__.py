"""Bytes in, safe message out."""
