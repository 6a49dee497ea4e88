"""Several copies of an engine, in processes of their own, that share the requests."""
