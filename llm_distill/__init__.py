"""llm-distill: make a small model good at a task with the help of a large one.

From Python, what the commands do:

    import llm_distill as ld

    pipeline = ld.load("pipelines/arte.yaml", overrides={"stages.drafts.n": 5})
    run = ld.run(pipeline)
    run["exam"].results

Nothing is imported before it is used: `import llm_distill` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_distill import errors
    from llm_distill.api.run import plan, run
    from llm_distill.api.runs import Run, StageResult, load_run
    from llm_distill.api.settings import load, validate

__version__ = "0.1.0"

__all__ = [
    "Run",
    "StageResult",
    "__version__",
    "errors",
    "load",
    "load_run",
    "plan",
    "run",
    "validate",
]

_PLACES = {
    "Run": "api.runs",
    "StageResult": "api.runs",
    "load": "api.settings",
    "load_run": "api.runs",
    "plan": "api.run",
    "run": "api.run",
    "validate": "api.settings",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("llm_distill.errors")
    if name not in _PLACES:
        raise AttributeError(f"module 'llm_distill' has no attribute '{name}'")
    return getattr(import_module(f"llm_distill.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
