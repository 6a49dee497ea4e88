"""Glue to TRL, PEFT and accelerate."""
