"""The sandboxed decoder processes. Empty on purpose: a decoder process imports this package, and must stay small."""
