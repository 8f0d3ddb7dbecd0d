"""Test kits for what third parties add."""
