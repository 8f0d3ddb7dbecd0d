"""E-mail: bytes to a value, the new text of a reply, and the bytes of our own."""
