"""What workers have imported before they start: see `runtime.worker`.

A package that is missing or broken fails in the stage that needs it.
"""

import logging
from contextlib import suppress
from importlib import import_module

PACKAGES = (
    "datasets",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.generation",
    "peft",
    "llm_distill.runtime.perform",
    "llm_distill.engines.transformers.engine",
)

# bitsandbytes, which peft imports, would print that a faster kernel is not installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
for package in PACKAGES:
    with suppress(Exception):
        import_module(package)
