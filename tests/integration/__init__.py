"""The library and the services against a real RabbitMQ."""
