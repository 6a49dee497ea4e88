"""Which models stay in memory beside each other while they are asked in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import llm_distill.runtime.context as module
from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.engines.settings import EngineSettings
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.engines.vllm_server.settings import VLLMServerSettings
from llm_distill.models.size import size_of
from llm_distill.models.sources import ModelSource
from llm_distill.paths import bundled_root
from llm_distill.runtime.context import ModelInput, StageContext, StageInputs
from llm_distill.runtime.hardware import Hardware
from llm_distill.runtime.side_by_side import SHARE, fit_side_by_side
from llm_distill.tracking import TrackedRun
from tests.conftest import FakeEngine, _NoBar

GIB = 2**30
LAPTOP = Hardware(0, None, 8 * GIB)
HERE, ON_CPU = TransformersSettings(), TransformersSettings(device="cpu")
OWN_SERVERS = [
    VLLMServerSettings(kind="vllm_server", gpus=(number,), command=("x",)) for number in (0, 1)
]
SERVED = OpenAISettings(kind="openai", base_url="http://localhost:1/v1")


def tiny(name: str) -> ModelSource:
    return ModelSource(name, str(bundled_root() / "data" / "models" / name))


TUTOR, PUPIL, UNKNOWN = tiny("tiny-tutor"), tiny("tiny-pupil"), ModelSource("x", "nobody/x")


@pytest.mark.parametrize(
    ("models", "hardware", "fits"),
    [
        ([(TUTOR, HERE), (PUPIL, HERE)], LAPTOP, True),
        ([(TUTOR, HERE), (PUPIL, VLLMSettings(kind="vllm"))], LAPTOP, False),
        ([(TUTOR, HERE), (UNKNOWN, HERE)], LAPTOP, False),
        ([(UNKNOWN, OWN_SERVERS[0]), (TUTOR, OWN_SERVERS[1])], LAPTOP, True),
        ([(UNKNOWN, OWN_SERVERS[0]), (TUTOR, OWN_SERVERS[0])], LAPTOP, False),
        ([(UNKNOWN, OWN_SERVERS[0]), (TUTOR, HERE)], LAPTOP, False),
        # Only one is here: no rule is broken, however large it is.
        ([(UNKNOWN, VLLMSettings(kind="vllm")), (TUTOR, SERVED)], LAPTOP, True),
        ([(TUTOR, HERE), (PUPIL, HERE)], Hardware(None, None, 8 * GIB), False),
        ([(TUTOR, ON_CPU), (PUPIL, ON_CPU)], Hardware(None, None, 8 * GIB), True),
        ([(TUTOR, HERE), (PUPIL, HERE)], Hardware(1, 2**20, 8 * GIB), False),
        ([(TUTOR, HERE), (PUPIL, HERE)], Hardware(0, None, None), False),
    ],
)
def test_which_fit(
    models: list[tuple[ModelSource, EngineSettings]], hardware: Hardware, fits: bool
) -> None:
    assert fit_side_by_side(models, hardware) is fits


def test_the_bound_is_of_all_together_and_by_device() -> None:
    sizes = [size_of(Path(source.path)) for source in (TUTOR, PUPIL)]
    both = sum(size.bytes() for size in sizes if size is not None)
    enough = round(both / SHARE) + 1
    models = [(TUTOR, HERE), (PUPIL, HERE)]
    assert fit_side_by_side(models, Hardware(0, None, enough))
    assert not fit_side_by_side(models, Hardware(0, None, enough - 9))
    assert fit_side_by_side(models, Hardware(1, enough, 1))
    apart: list[tuple[ModelSource, EngineSettings]] = [(TUTOR, HERE), (PUPIL, ON_CPU)]
    assert fit_side_by_side(apart, Hardware(1, enough - 9, enough - 9))


@pytest.mark.parametrize(
    ("engine", "hardware", "turns"),
    [
        (HERE, LAPTOP, {"t": 1, "s": 1}),
        (SERVED, LAPTOP, {"t": 1, "s": 1}),
        (HERE, Hardware(0, None, 1), {"t": 3, "s": 3}),
    ],
    ids=["small", "one on a server", "too large"],
)
def test_how_often_they_are_loaded(
    engine: EngineSettings,
    hardware: Hardware,
    turns: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "this_machine", lambda: hardware)
    opened: list[str] = []
    there: set[str] = set()

    class Engine(FakeEngine):
        def __init__(self, name: str) -> None:
            super().__init__(lambda request: name)
            opened.append(name)
            there.add(name)
            self.name = name

        def close(self) -> None:
            there.discard(self.name)

    inputs = StageInputs(
        seed=0,
        work_dir=tmp_path,
        store=tmp_path / "store.sqlite",
        tracked=TrackedRun("test", "test/now/stage", tmp_path / "tracking"),
        models={
            "t": ModelInput(ModelSource("t", TUTOR.path), engine),
            "s": ModelInput(ModelSource("s", PUPIL.path), HERE),
            "other": ModelInput(ModelSource("other", PUPIL.path), HERE),
        },
    )
    bar: Any = lambda *_: nullcontext(_NoBar())  # noqa: E731
    context = StageContext(inputs, lambda model: Engine(model.source.name), bar)

    def ask(model: str) -> Iterator[Any]:
        return context.generate(model, [Request("a", "Hi", SamplingSettings(), 0)])

    context.ask_in_turn(["t", "s"])
    for _ in range(3):
        for model in ("t", "s"):
            assert [said.text for _, said in ask(model)] == [model]
    assert {name: opened.count(name) for name in ("t", "s")} == turns
    list(ask("other"))  # which is none of them
    assert there == {"other"}
    context.close()
    assert not there
