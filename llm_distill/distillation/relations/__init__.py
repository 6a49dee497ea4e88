"""Relations between tokens inside a layer, which a student learns in place of outputs."""
