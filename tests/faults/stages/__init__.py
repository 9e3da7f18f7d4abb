"""Stages of the tests' own, mounted into a stage image in place of what it has."""
