"""Which engine is opened, and what is said where its package is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llm_distill.engines.budget import Budget
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource


def test_without_vllm_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelSource
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # any import of it fails
    for name in [n for n in sys.modules if n.startswith("llm_distill.engines.vllm.engine")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModelError) as caught:
        VLLMSettings(kind="vllm").open(tiny, Budget(None))
    assert "pip install 'llm-distill[vllm]'" in str(caught.value)
    assert "make setup-vllm" in str(caught.value)


def test_vllm_settings_are_checked_by_name_without_vllm() -> None:
    check = (
        "import sys; from llm_distill.engines.vllm.settings import VLLMSettings as S\n"
        "try: S(kind='vllm', tensor_paralel_size=2)\n"
        "except ValueError as error: print(error)\n"
        "assert not {'vllm', 'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tensor_paralel_size" in done.stdout
