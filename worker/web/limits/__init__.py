"""Limits of the HTTP server: connections, and the bytes and the time of requests."""
