"""RabbitMQ: connection, publishing, topology, message format and broadcast commands."""
