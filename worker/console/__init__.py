"""The operators' web pages under `/console/`. `app.mount` adds them to a receiver."""
