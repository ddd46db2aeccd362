"""Vector graphics: SVG, which is stored after it has been sanitised."""
