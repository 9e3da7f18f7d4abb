"""The tutorial's programs, step by step, and the tests that run them."""
