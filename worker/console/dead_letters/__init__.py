"""The pages of dead letters, and the list of them as last read from the queue."""
