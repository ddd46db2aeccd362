"""Accepts tasks from Celery producers and answers in Celery's result format."""
