"""Tells NOTIFY_URLS what happens: generations that end, and new dead letters, as Standard Webhooks or in Slack's form.

`events.py` asks the database what happened and publishes notices; any worker sends them, until they are accepted.
"""
