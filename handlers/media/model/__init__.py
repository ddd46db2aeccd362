"""3D models: the structure is checked by one module per format; the files are stored as they are."""
