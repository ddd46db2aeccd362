"""3D models: one module per format checks the structure. The files are stored as they are."""
