"""Answers from a table or a function, for tests and for trying a pipeline."""
