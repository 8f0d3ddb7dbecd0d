"""Test kits for extensions by third parties."""
