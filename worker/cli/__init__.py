"""The `outlast` command line."""
