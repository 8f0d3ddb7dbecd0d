"""Use cases of privacy: erase, export, retention."""
