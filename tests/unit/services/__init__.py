"""The stages, each for itself."""
