from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.transformers import decoding, shared_prefix
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.transformers.shared_prefix import groups_by_prefix, prefix_length, shared
from llm_distill.models.sources import ModelSource

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


@given(PROMPTS)
def test_groups_hold_every_prompt_once_and_share_what_is_said(prompts: list[list[int]]) -> None:
    groups = groups_by_prefix(prompts)
    assert sorted(index for group in groups for index in group) == list(range(len(prompts)))
    for group in groups:
        members = [prompts[index] for index in group]
        length = prefix_length(members)
        assert all(tokens[:length] == members[0][:length] for tokens in members)
        assert all(len(tokens) > length for tokens in members)
        if len(members) > 1:  # no longer one would do
            longer = length + 1
            assert any(len(t) <= longer or t[:longer] != members[0][:longer] for t in members)


def test_exams_of_one_candidate_are_a_group_though_all_have_one_heading() -> None:
    exams = [[9, 9, *[candidate] * 10, item] for item in range(3) for candidate in range(4)]
    groups = groups_by_prefix(exams)
    assert sorted(len(group) for group in groups) == [3, 3, 3, 3]
    assert [prefix_length([exams[i] for i in group]) for group in groups] == [12] * 4


def test_shared() -> None:
    assert [shared([1, 2, 3], other) for other in ([1, 2, 4], [1, 2, 3, 4], [], [5])] == [
        2,
        3,
        0,
        0,
    ]


def exams() -> list[Request]:
    examples = ("a farmer has twelve apples", "the fox jumps over the lazy dog", "0 1 2 3 4 5 6 7")
    sampling = SamplingSettings(temperature=0, max_tokens=12)
    drawn = SamplingSettings(temperature=1, top_k=5, max_tokens=9)
    shared_ones = [
        Request(
            f"{e}-{i}", f"{text}.\nQuestion: {'+ ' * i}{i}?", drawn if i == 2 else sampling, i, True
        )
        for e, text in enumerate(examples)
        for i in range(5)
    ]
    return [*shared_ones, Request("alone", "text and text", sampling, 1, True)]


def answers(engine: TransformersEngine, requests: list[Request]) -> dict[str, Any]:
    return {c.id: c for c in engine.generate(requests)}


def tokens_computed(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the number of places in each forward pass of more than one token a row."""
    assert engine._fitting_decode is decoding.decode_in_steps  # it is tried before
    found: list[int] = []
    forward = engine._model.forward

    def counting(*, input_ids: torch.Tensor, **more: Any) -> Any:
        if input_ids.shape[1] > 1:
            found.append(input_ids.numel())
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(engine._model, "forward", counting)
    return found


def test_sharing_computes_less_and_changes_nothing(
    tiny: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(tiny, TransformersSettings(batch_size=16, device="cpu"))
    computed = tokens_computed(engine, monkeypatch)
    together = answers(engine, exams())
    with_sharing = sum(computed)
    computed.clear()
    alone = {}
    for request in exams():
        alone |= answers(engine, [request])
    assert with_sharing < 0.75 * sum(computed)
    for name, expected in alone.items():
        assert together[name].text == expected.text
        assert together[name].finish_reason == expected.finish_reason
        assert together[name].logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        assert together[name].n_prompt_tokens == expected.n_prompt_tokens


def test_layers_with_a_window_get_each_prompt_whole(
    tiny: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(tiny, TransformersSettings(batch_size=16, device="cpu"))
    monkeypatch.setattr(shared_prefix, "is_all_roomy", lambda cache: False)
    computed = tokens_computed(engine, monkeypatch)
    whole = answers(engine, exams())
    n_passes = len(computed)
    monkeypatch.undo()
    assert n_passes == 1
    assert {n: c.text for n, c in whole.items()} == {
        n: c.text for n, c in answers(engine, exams()).items()
    }
