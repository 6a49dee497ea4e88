"""Process reward models: how likely each step of an answer is right, all steps in one pass."""
