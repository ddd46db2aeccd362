"""What is done with one event: the pipeline, its steps, media types, sources, storage."""
