"""A dataset whose conversations are in another form: others load it, and so do we."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import DatasetCard

from llm_distill.errors import DataError
from llm_distill.publish.cards import Origin
from llm_distill.publish.lineage import read_lineage
from llm_distill.publish.package import Package, package
from llm_distill.rows.conversation_forms import Form
from llm_distill.rows.messages import KEYS
from llm_distill.stages.load_dataset import LoadDataset
from llm_distill.stages.push_to_hub import PushToHub

MODELS = Path(__file__).parents[2] / "data/models"
LARGE = 2**53 + 1
"""A whole number that no float is."""


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {**dict.fromkeys(KEYS), "role": role, "content": content, **more}


def calling(**arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    return said("assistant", "", tool_calls=json.dumps([call]))


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"a": {}, "b": None}}}]
CALLS: list[dict[str, Any]] = [
    {
        "id": "first",
        "messages": [
            said("system", "Use f."),
            said("user", "Go."),
            calling(a=None, b={}, n=LARGE),
            said("tool", "5"),
            said("assistant", "Five.", reasoning_content="It says 5.", weight=1.0),
        ],
        "tools": json.dumps(TOOLS),
    },
    {
        "id": "second",
        "messages": [said("user", "And?"), calling(c=[{"x": 1}, {"y": None}])],
        "tools": None,
    },
]
PLAIN: list[dict[str, Any]] = [
    {
        "id": name,
        "messages": [
            *([said("system", "Add.")] if name == "b" else []),
            said("user", "2 + 2?"),
            said("assistant", "4"),
            said("user", "3 + 3?"),
            said("assistant", "6", reasoning_content="3 + 3"),
        ],
    }
    for name in ("a", "b")
]
PAIRS = [
    {"id": name, "prompt": f"{name}?", "chosen": "yes", "rejected": "no", "margin": 0.5}
    for name in ("a", "b")
]

Pack = Callable[..., tuple[Package, Path]]


@pytest.fixture
def pack(made: Any, tmp_path: Path) -> Pack:
    """What a push of rows sends, and a folder with these files."""

    def pack(rows: list[dict[str, Any]], form: Form | None) -> tuple[Package, Path]:
        artifact = made.artifact("talks", "generate", rows=rows)
        origin = Origin(read_lineage(artifact.path), (), {})
        before = sorted(artifact.path.iterdir())
        packed = package(origin, "me/talks", "mit", tmp_path / "work", conversation_form=form)
        assert sorted(artifact.path.iterdir()) == before  # nothing is cached beside the artifact
        folder = tmp_path / "repo"
        for name, file in packed.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(file if isinstance(file, bytes) else file.read_bytes())
        return packed, folder

    return pack


@pytest.fixture
def theirs(tmp_path: Path) -> Callable[[Path], Dataset]:
    return lambda folder: load_dataset(
        str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )


@pytest.fixture
def ours(run_stage: Any) -> Callable[..., list[dict[str, Any]]]:
    """The rows as `load_dataset` of ours reads the folder, without nulls in the messages."""

    def load(folder: Path, shape: str) -> list[dict[str, Any]]:
        run = run_stage(LoadDataset(stage="load_dataset", path=str(folder), format=shape))
        assert run.warnings == []
        return [_bare(row) for row in run.rows]

    return load


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [{k: v for k, v in turn.items() if v is not None} for turn in value]
        if isinstance(value, list)
        else value
        for name, value in row.items()
    }


def shape_in(card: str) -> str:
    """The format that the card says to load it with."""
    _, _, rest = card.partition("path: me/talks, format: ")
    return rest.partition("}")[0]


@pytest.mark.parametrize(
    ("form", "rows"),
    [("openai", CALLS), ("sharegpt", CALLS), ("trl", CALLS)]
    + [(form, PLAIN) for form in ("openai", "sharegpt", "alpaca", "trl")],
)
def test_what_is_pushed_is_read_as_the_rows_were(
    form: Form, rows: list[dict[str, Any]], pack: Pack, theirs: Any, ours: Any
) -> None:
    packed, folder = pack(rows, form)
    read = ours(folder, shape_in(packed.card))
    if form == "trl":
        for row in read:
            row["messages"] = [*row.pop("prompt"), *row.pop("completion")]
    assert read == [_bare(row) for row in rows]
    assert packed.warnings == ()
    assert packed.dropped == {}
    loaded = theirs(folder)
    features = DatasetCard(packed.card).data.dataset_info["features"]
    assert [feature["name"] for feature in features] == loaded.column_names
    assert len(loaded) == len(rows)


def test_openai_is_the_form_of_rows_that_are_pushed_as_they_are(pack: Pack) -> None:
    name = "data/train-00000-of-00001.parquet"
    as_they_are, folder = pack(CALLS, None)
    before = (folder / name).read_bytes()
    packed, folder = pack(CALLS, "openai")
    assert (folder / name).read_bytes() == before
    assert "## Conversations" in packed.card
    assert "## Conversations" not in as_they_are.card


def test_calls_for_datasets(pack: Pack, theirs: Any) -> None:
    _, folder = pack(CALLS, "trl")
    first, second = theirs(folder)
    (call,) = first["prompt"][2]["tool_calls"]
    assert call["function"]["arguments"] == {"a": None, "b": {}, "n": LARGE}
    assert first["tools"] == TOOLS
    (call,) = second["completion"][0]["tool_calls"]
    assert call["function"]["arguments"] == {"c": [{"x": 1}, {"y": None}]}
    assert second["tools"] is None


def test_calls_in_sharegpt(pack: Pack, theirs: Any) -> None:
    packed, folder = pack(CALLS, "sharegpt")
    first, _ = theirs(folder)
    assert first["system"] == "Use f."
    assert first["conversations"][1]["from"] == "function_call"
    call = json.loads(first["conversations"][1]["value"])
    assert call == {"name": "f", "arguments": {"a": None, "b": {}, "n": LARGE}}
    assert json.loads(first["tools"]) == TOOLS  # text: LLaMA-Factory parses it
    assert '"tools": "tools"' in packed.card
    assert "axolotl" not in packed.card
    plain, _ = pack(PLAIN, "sharegpt")
    assert "message_property_mappings: {role: from, content: value}" in plain.card


@pytest.mark.parametrize(
    ("model", "asks", "ends"),
    [
        ("tiny-stat-student", "<|assistant|>", "<|end|>"),
        ("SmolLM2-135M-Instruct", "<|im_start|>assistant\n", "<|im_end|>\n"),
    ],
)
@pytest.mark.parametrize(
    ("rows", "parts"),
    [(PLAIN, ("prompt", "completion")), (PAIRS, ("prompt", "chosen", "rejected"))],
)
def test_trl_takes_its_form(
    rows: list[dict[str, Any]],
    parts: tuple[str, ...],
    model: str,
    asks: str,
    ends: str,
    pack: Pack,
    theirs: Any,
) -> None:
    if not (MODELS / model).is_dir():
        pytest.skip(f"no {model}: make setup-vllm")
    from transformers import AutoTokenizer
    from trl.data_utils import is_conversational, maybe_apply_chat_template

    tokenizer = AutoTokenizer.from_pretrained(str(MODELS / model))
    packed, folder = pack(rows, "trl")
    assert ("DPOTrainer" if "chosen" in parts else "SFTTrainer") in packed.card
    for row in theirs(folder):
        assert is_conversational(row)
        rendered = maybe_apply_chat_template(row, tokenizer)
        assert {*rendered} == {*parts}
        assert rendered["prompt"].endswith(asks)
        for name in parts[1:]:
            assert rendered[name] == row[name][0]["content"] + ends


def test_what_a_form_cannot_hold_is_said_counted_and_on_the_card(pack: Pack) -> None:
    weighed = [said("user", "Hi"), said("assistant", "Hello", weight=0.0)]
    packed, _ = pack([*CALLS, {"id": "third", "messages": weighed, "tools": None}], "alpaca")
    assert packed.dropped == {"alpaca: calls of tools": 2}
    lost, left_out = packed.warnings
    assert lost == "alpaca has no place for weights (1 turn, the first in row third)"
    assert left_out.endswith("calls of tools (2 rows, the first in row first)")
    assert "The form has no place for weights (1 turn, the first in row third)" in packed.card
    assert "Rows that it cannot hold were left out: calls of tools (2 rows" in packed.card
    assert "1 rows, the result of the stage" in packed.card
    with pytest.raises(DataError, match=r"no row can be written as alpaca: calls of tools \(2"):
        pack(CALLS, "alpaca")


@pytest.mark.parametrize("form", [None, "trl"])
def test_a_number_that_datasets_cannot_read_stays_text(
    form: Form | None, pack: Pack, theirs: Any, ours: Any
) -> None:
    huge = {"id": "huge", "messages": [said("user", "Go."), calling(n=2**64)], "tools": None}
    packed, folder = pack([CALLS[0], huge], form)
    column = "completion" if form else "messages"
    (warning,) = packed.warnings
    assert warning.startswith(f"column '{column}' is pushed as JSON text: datasets cannot read")
    assert "row huge" in warning
    _, last = theirs(folder)
    (call,) = json.loads(last[column][-1]["tool_calls"])
    assert call["function"]["arguments"] == {"n": 2**64}
    assert ours(folder, "rows")[1][column][-1] == _bare(huge)["messages"][-1]


def test_the_stage_pushes_the_form_and_says_what_is_left_out(
    made: Any, hub: Any, run_stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [CALLS[0], {**PLAIN[0], "tools": None}]
    lineage = read_lineage(made.artifact("talks", "generate", rows=rows).path)
    monkeypatch.setattr("llm_distill.publish.lineage.read_lineage", lambda path: lineage)
    settings = {"rows": "talks", "repo_id": "me/talks", "license": "mit"}
    stage = PushToHub(stage="push_to_hub", **settings, conversation_form="alpaca")
    run = run_stage(stage, {"talks": rows})
    assert run.dropped == {"alpaca: calls of tools": 1}
    assert ["calls of tools (1 row, the first in row first)" in each for each in run.warnings] == [
        True
    ]
    card = hub.repos["datasets/me/talks"].files["README.md"].decode()
    assert "They are in Alpaca's form" in card
