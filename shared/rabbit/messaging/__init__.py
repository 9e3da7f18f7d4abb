"""Messages in, out and settled: consumers, publishers, the book-keeping between them."""
