"""Distilling across tokenizers: what scoring a teacher and training a student share."""
