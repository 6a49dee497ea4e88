"""Log-probabilities from hidden states, tile by tile."""
