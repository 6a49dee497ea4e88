"""`python -m llm_distill`, the same as `llm-distill`."""

from llm_distill.cli.main import main

if __name__ == "__main__":
    main()
