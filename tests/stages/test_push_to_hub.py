"""The stage: what its settings may be. Pushing itself is tested in tests/delivery."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import HubError
from llm_distill.stages.push_to_hub import COLUMNS, PushToHub


def push(**settings: Any) -> PushToHub:
    return PushToHub(stage="push_to_hub", **{"repo_id": "me/toy", **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "set either rows .* or model"),
        ({"rows": "a", "model": "b"}, "set either rows .* or model"),
        ({"rows": "a", "repo_id": "toy"}, "has no owner; write NAMESPACE/NAME"),
        ({"rows": "a", "repo_id": "me/t y"}, "repo id 'me/t y'"),
        ({"rows": "a", "license": "apache"}, "not one that the Hub knows; .* mean 'apache-2.0'"),
        ({"rows": "a", "evaluations": ["exam"]}, "a dataset's card does not show any"),
        ({"model": "a", "conversation_form": "trl"}, "a model has no conversations; remove it"),
        ({"rows": "a", "conversation_form": "gpt"}, "'openai', 'sharegpt', 'alpaca' or 'trl'"),
        ({"rows": "a", "token": "hf_x"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValidationError, match=message):
        push(**settings)


def test_it_is_private_unless_told_otherwise():
    assert push(rows="a").private
    assert push(rows="a").output_columns({"a": None}) == frozenset(COLUMNS)


def test_another_hub_is_another_result(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert push(rows="a").source_digests() == {}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1/")
    assert push(rows="a").source_digests() == {"HF_ENDPOINT": "http://127.0.0.1:1"}


def test_without_a_token_it_stops_before_it_reads_anything(run_stage, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(HubError, match="there is no token for the Hub"):
        run_stage(push(rows="a"), {"a": [{"id": "1"}]})
