"""How long tests wait for what must happen: one place, generous, since a busy machine is no fault.

A test waits for a condition and goes on as soon as it holds; these limits only end a test that would wait for ever.
`OUTLAST_PATIENCE=3` makes them three times as long.
"""

import os

FACTOR = float(os.environ.get("OUTLAST_PATIENCE", "1"))
WAIT_SECONDS = 60 * FACTOR
"""Seconds for what takes a moment on a quiet machine: an answer, a state, one job, a process that starts or ends."""
FAST_SECONDS = 4 * FACTOR
"""Seconds for what must answer within a second on a quiet machine, and would take ten if it waited in vain."""
LONG_WAIT_SECONDS = 240 * FACTOR
"""Seconds for what takes some: many jobs, several processes, a server that returns."""
