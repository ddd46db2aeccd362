"""`outlast try`: sends one test generation through the real set-up, follows it to the stored bytes, and removes it."""
