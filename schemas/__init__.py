"""What crosses a process boundary: webhook bodies, jobs, task states, results. Imports nothing of ours."""
