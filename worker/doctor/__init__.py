"""`outlast doctor`: one small function a check, grouped by what it looks at; `run.CHECKS` is the list of them."""
