"""Passes FAL's verified webhooks on to the application (FORWARD_WEBHOOKS). FAL calls one address only.

The receiver publishes the body, a worker sends it: signed, and repeated until the application answers 2xx or
MAX_ATTEMPTS is reached.
"""
