"""SQL of privacy: erasures, exports, retention, raw bytes."""
