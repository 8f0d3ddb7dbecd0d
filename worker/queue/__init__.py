"""Celery and the broker."""
