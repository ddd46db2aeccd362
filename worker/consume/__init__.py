"""Consuming jobs: from a delivery to its settlement, with retries, leases and the circuit breaker."""
