"""Dead letters: list, show, group, replay and discard them. The command line, HTTP API and console use `service`."""
