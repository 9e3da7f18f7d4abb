"""The board: a real broker, real stages, and a real browser that looks and presses."""
