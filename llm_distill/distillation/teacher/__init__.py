"""What a teacher says of texts: scored before, or in the training's memory."""
