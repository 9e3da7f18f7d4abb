"""Stop the pipeline and prove it, drain it in flow order, say who is there."""
