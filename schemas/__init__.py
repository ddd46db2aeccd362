"""Data that crosses a process boundary: webhook bodies, jobs, task states, results. Imports no other package."""
