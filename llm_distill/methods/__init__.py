"""The algorithms, as pure functions: no files, no engines, no stages."""
