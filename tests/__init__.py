"""All tests: unit, integration, tutorial, end to end."""
