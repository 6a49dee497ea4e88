"""Texts that the student writes while it is trained, for its teacher to read."""
