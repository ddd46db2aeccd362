"""The HTTP server: the webhook receiver, health routes and the API's common parts."""
