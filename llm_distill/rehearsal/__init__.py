"""A pipeline walked end to end with stand-ins for its models and datasets."""
