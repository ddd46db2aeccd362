"""`python -m worker` is the `outlast` command."""

from worker.cli.main import main

main()
