"""Who writes and scores text."""
