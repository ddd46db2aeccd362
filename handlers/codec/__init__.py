"""The codec processes, which are sandboxed, and the worker's side of them.

Nothing is imported here: a codec process must stay small.
"""
