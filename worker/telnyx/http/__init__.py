"""Connections and requests to Telnyx."""
