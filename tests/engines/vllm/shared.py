"""What the tests of vLLM have in common: when they run, the models, what is asked."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from llm_distill.engines.base import Message
from llm_distill.models.sources import ModelSource

NEEDS_VLLM = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
ROOT = Path(__file__).parents[3]
SMOLLM2 = ModelSource("smollm2", str(ROOT / "data/models/SmolLM2-135M-Instruct"), dtype="float32")
STUDENT = ModelSource("student", str(ROOT / "data/models/tiny-student"), prompt_format="text")
SECONDS_TO_START = 400


def need_smollm2() -> None:
    """Fail where it has not been written."""
    if not Path(SMOLLM2.path).is_dir():
        pytest.fail("python scripts/smollm2.py writes the model that these tests need")


def chat(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def questions(n: int) -> list[str]:
    lines = (ROOT / "data/word_problems/test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines[:n]]
