"""What scoring with a teacher and training across tokenizers share."""
