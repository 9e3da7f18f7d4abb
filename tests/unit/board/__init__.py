"""What of the board needs no broker."""
