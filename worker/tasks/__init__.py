"""The task API: submit tasks, read their status, follow and cancel them; for HTTP, Python and the command line."""
