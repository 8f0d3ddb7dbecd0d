"""Commands that only read: status, why, stuck, metrics, health."""
