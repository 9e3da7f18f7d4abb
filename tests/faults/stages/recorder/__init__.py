"""The stage recorder of the tests' own."""
