"""`outlast dead`."""
