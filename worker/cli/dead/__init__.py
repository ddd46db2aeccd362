"""`outlast dead`: list, replay and discard dead letters."""
