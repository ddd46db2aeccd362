"""Data of models: weights and arrays. Their structure is checked; nothing in them is unpickled or run."""
