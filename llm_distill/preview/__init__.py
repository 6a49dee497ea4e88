"""The first rows of a pipeline, seen stage by stage before a run is paid for."""
