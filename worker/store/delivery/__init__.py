"""SQL of delivery: the outbox and webhook endpoints."""
