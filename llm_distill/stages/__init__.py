"""One file is one stage: a Pydantic model (its settings) with a run method. Rows in, rows out."""
