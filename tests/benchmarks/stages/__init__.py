"""Stages that are measured and not shipped: run in the image of one that is."""
