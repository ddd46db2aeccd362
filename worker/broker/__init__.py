"""RabbitMQ: connection, publishing, topology, message format, broadcast commands."""
