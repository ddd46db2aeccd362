"""Receiver, broker, consumers, retries, dead letters, command line, console, metrics."""
