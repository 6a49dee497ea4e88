"""The command line with the toy stages as well as the real ones, for tests in another process."""

import sys
from pathlib import Path

from llm_distill.cli.main import main

sys.path.insert(0, str(Path(__file__).parent / "toy_stages"))

if __name__ == "__main__":
    sys.argv[0] = "llm-distill"
    main()
