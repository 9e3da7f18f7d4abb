"""Small stages that tests run as processes."""
