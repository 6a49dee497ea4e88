"""A model with another tokenizer."""
