"""Going through a queue of dead letters, and bringing them back."""
