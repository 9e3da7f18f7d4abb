"""The book-keeping of the faults."""
