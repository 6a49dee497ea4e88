"""Runs of one pipeline over seeds and settings, and what they say together."""
