"""AMQP 0-9-1: connections, channels, frames, properties. pika ends here."""
