"""The command line with the toy stages beside the real ones, for tests in another process."""

import sys
from pathlib import Path

import llm_distill.stages
from llm_distill.cli import main

llm_distill.stages.__path__.append(str(Path(__file__).parent / "toy_stages"))

if __name__ == "__main__":
    sys.argv[0] = "llm-distill"
    main()
