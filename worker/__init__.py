"""How messages move: receiver, broker, consumer, retries, dead letters, command line, metrics."""
