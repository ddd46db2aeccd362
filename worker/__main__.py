"""`python -m worker` is the `outlast` command."""

from worker.cli import main

main()
