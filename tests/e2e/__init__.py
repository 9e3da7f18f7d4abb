"""The real compose file, through the commands a user types."""
