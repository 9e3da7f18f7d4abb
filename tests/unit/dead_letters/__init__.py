"""Dead letters, without a broker."""
