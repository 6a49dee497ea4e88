"""llm-distill from Python: `import llm_distill as ld` has the names; see docs/python.md."""
