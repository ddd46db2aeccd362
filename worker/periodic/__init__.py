"""Periodic jobs: reconcile, maintenance, optimize, and the schedule that starts them."""
