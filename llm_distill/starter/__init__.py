"""A pipeline of a person's own: their data, a method, and few lines that run as they stand."""
