"""The local stack for the demo and the tests: its own RabbitMQ, its own PostgreSQL, and a local Supabase gateway.

Only the command line (lazily) and the tests import it.
"""
