"""One replica's life: loop turns, handlers, an ordered stop."""
