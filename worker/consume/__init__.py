"""Consuming jobs: worker, consumers, attempts, their settlement, retries and the circuit breaker."""
