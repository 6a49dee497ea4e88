"""What scoring and training across tokenizers share."""
