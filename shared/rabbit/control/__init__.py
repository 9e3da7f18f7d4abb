"""Commands to all replicas, and what they report."""
