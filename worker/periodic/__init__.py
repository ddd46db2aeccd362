"""Periodic work: the sweep for missed generations, maintenance, re-compression, and the schedule that starts them."""
