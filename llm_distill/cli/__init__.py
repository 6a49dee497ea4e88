"""The command line: one file a command group, and what a person or a machine sees of a run."""
