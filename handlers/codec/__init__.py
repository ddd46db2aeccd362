"""The sandboxed decoder processes. Nothing is imported here: a decoder process must stay small."""
