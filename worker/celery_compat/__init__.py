"""Compatibility with Celery: accepts tasks of Celery producers and sends results in Celery's format."""
