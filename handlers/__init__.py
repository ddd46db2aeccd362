"""Processing of one event: webhook sources, the pipeline and its steps, media types, database and storage."""
