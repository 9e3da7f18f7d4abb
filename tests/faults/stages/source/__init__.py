"""The stage source of the tests' own."""
