"""The board: the pipeline as a page, for people who would rather look, and a hand on it."""
