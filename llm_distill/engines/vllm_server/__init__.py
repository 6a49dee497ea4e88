"""A server of vLLM that a stage starts, asks and stops."""
