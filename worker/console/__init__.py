"""The console: what fails is seen, understood and mended in a browser. `app.mount` puts it on a receiver."""
