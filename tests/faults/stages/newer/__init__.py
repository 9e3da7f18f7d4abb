"""The stage newer of the tests' own."""
