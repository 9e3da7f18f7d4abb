"""Complete stages, as examples; each is run by a test against real parts."""
