"""The stage fallible of the tests' own."""
