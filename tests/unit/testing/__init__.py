"""Stages without a broker."""
