"""Tells NOTIFY_URLS what happens: generations that end, and new dead letters, as Standard Webhooks or in Slack's form.

`events.py` asks the database what to tell and publishes it; any worker sends it, and repeats it until it is accepted.
"""
