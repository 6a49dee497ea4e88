"""What an engine's settings answer about it, and that a new engine has nothing to add elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pytest

from llm_distill.engines.kinds import settings_class
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.engines.scripted.settings import ScriptedSettings
from llm_distill.engines.settings import EngineSettings
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.pipeline.names import Names
from llm_distill.pipeline.rounds import Rounds
from llm_distill.pipeline.schema import ModelConfig, PipelineConfig
from llm_distill.runtime import resolve


class Toy(EngineSettings):
    """A new server's, with as little as it can say."""

    loads_weights: ClassVar[bool] = False
    kind: Literal["toy"] = "toy"


TOY = ModelConfig.model_construct(model_name_or_path="some/model", engine=Toy())
LOADED = ModelConfig(model_name_or_path="org/weights")


@pytest.mark.parametrize(
    ("engine", "loads_weights", "is_served", "is_kept", "holds_structure", "gives_likelihoods"),
    [
        (TransformersSettings, True, False, True, False, True),
        (VLLMSettings, True, False, True, True, True),
        (OpenAISettings, False, True, True, True, True),
        (ScriptedSettings, False, False, False, False, False),
        (Toy, False, True, True, False, False),
    ],
)
def test_what_each_is(
    engine: type[EngineSettings],
    loads_weights: bool,
    is_served: bool,
    is_kept: bool,
    holds_structure: bool,
    gives_likelihoods: bool,
) -> None:
    found = engine.loads_weights, engine.is_served(), engine.is_kept, engine.holds_structure
    assert found == (loads_weights, is_served, is_kept, holds_structure)
    assert engine.can("likelihoods") == engine.gives_likelihoods == gives_likelihoods
    assert engine.can("structure") == (holds_structure or engine.is_stand_in)


def test_a_kind_gives_its_settings_and_an_unknown_one_those_of_weights() -> None:
    kinds = ["transformers", "vllm", "openai", "scripted", None, "another"]
    assert [settings_class(kind) for kind in kinds] == [
        TransformersSettings, VLLMSettings, OpenAISettings, ScriptedSettings,
        EngineSettings, EngineSettings,
    ]  # fmt: skip


def test_weights_are_identified_by_their_digest_and_a_server_by_its_name(tmp_path: Path) -> None:
    assert TransformersSettings().weights_identity("m") is None
    assert Toy().weights_identity("m") == {"served": "m"}
    server = OpenAISettings(kind="openai", base_url="http://h/v1", model="theirs")
    assert server.weights_identity("m") == {"served": "theirs"}
    (tmp_path / "answers.jsonl").write_text("{}")
    table = ScriptedSettings(kind="scripted", answers=str(tmp_path / "answers.jsonl"))
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert table.weights_identity("m") == {"answers": digest, "function": None, "module": None}


def test_a_new_server_is_not_taken_for_local_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither looked for here nor on the Hub, and nothing that loads weights is given it."""
    asked: list[str] = []
    monkeypatch.setattr(resolve, "learn_commit", lambda kind, name, _: asked.append(name))
    monkeypatch.setattr(resolve, "cached_commit", lambda kind, name, _: asked.append(name))
    assert list(Toy().check("./nowhere")) == []
    assert next(iter(TransformersSettings().check("./nowhere")))[0] == ("model_name_or_path",)
    stage = resolve.Stage.model_construct(stage="toy")
    models = {"toy": TOY, "weights": LOADED}
    pipeline = PipelineConfig("p", 0, models, "none", {"s": stage}, "p.yaml", None, {})
    monkeypatch.setattr(resolve, "models_of", lambda _: list(models))
    resolver = resolve.Resolver(pipeline)
    resolver.learn_commits(["s"])
    assert asked == ["org/weights"]
    assert resolver.model("toy").path == "some/model"
    assert resolver.used("toy").identity == {"served": "some/model"}
    assert asked == ["org/weights"]
    names = Names({"s": stage}, ["s"], models, list(models), Rounds({}, {}))
    assert names.misfit("weights", "model", "s", needs_weights=True) is None
    assert "(engine kind toy)" in str(names.misfit("toy", "model", "s", needs_weights=True))
