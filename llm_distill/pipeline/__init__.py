"""What the user declares: a file becomes a typed, checked pipeline. Runs nothing."""
