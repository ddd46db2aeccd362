"""Video and audio, opened and decoded with PyAV (FFmpeg)."""
