"""Watching a distillation for teacher hacking."""
