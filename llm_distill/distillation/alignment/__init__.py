"""Which tokens of two tokenizers are the same text."""
