"""The dead letters: found, shown, grouped, replayed, discarded; for the command line, for HTTP and for the rounds."""
