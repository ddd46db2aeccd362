"""The HTTP server of receiver and worker: webhooks, health checks, authentication, error responses, OpenAPI."""
