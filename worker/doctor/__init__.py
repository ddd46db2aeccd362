"""`outlast doctor`: one function per check, grouped by what it checks. `run.CHECKS` lists all checks in order."""
