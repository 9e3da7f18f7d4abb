"""The pipeline after `make secure`, through the commands that a user types."""
