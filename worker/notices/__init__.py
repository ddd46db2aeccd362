"""Sends notices of ended generations and new dead letters to NOTIFY_URLS, as Standard Webhooks or in Slack's form.

`events.py` asks the database what happened and publishes notices; any worker sends them, with retries.
"""
