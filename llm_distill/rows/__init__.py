"""Rows: their columns, and reading and writing them."""
