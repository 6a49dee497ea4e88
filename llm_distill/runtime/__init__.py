"""How a pipeline is carried out: reuse, execute, publish."""
