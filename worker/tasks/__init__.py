"""The task API: submit, look, watch, cancel; over HTTP, in Python and on the command line."""
