"""Time limits of all tests, in seconds. They are generous, because a busy machine must not fail a test.

A test waits for a condition and continues as soon as it holds; a limit only ends a test that would never end.
`OUTLAST_TEST_TIME_FACTOR=3` makes all limits three times as long.
"""

import os

FACTOR = float(os.environ.get("OUTLAST_TEST_TIME_FACTOR", "1"))
WAIT_SECONDS = 60 * FACTOR
"""For what takes a moment on a quiet machine: a response, a state, one job, a process that starts or ends."""
FAST_SECONDS = 4 * FACTOR
"""For what responds within a second on a quiet machine, and would take ten if it waited for a time limit."""
LONG_WAIT_SECONDS = 240 * FACTOR
"""For many jobs, several processes, or a server that restarts."""
