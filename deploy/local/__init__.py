"""The local stack: a private RabbitMQ, a private PostgreSQL and a small Supabase gateway, for the demo and the tests.

Imported only by the command line (lazily) and by tests.
"""
