"""Where licenses are read from, and which are known."""

from __future__ import annotations

import pytest

from llm_distill.errors import ConfigError
from llm_distill.models.hub import cached_commit
from llm_distill.publish.licenses import KNOWN, ON_OUTPUTS, check_license, license_of, restriction
from llm_distill.publish.lineage import OutsideModel
from tests.publish.loopback_hub import Repo


def used(path: str, *, is_on_hub: bool = False, revision: str | None = None) -> OutsideModel:
    return OutsideModel("m", path, revision, ("answers",), is_on_hub)


def test_an_identifier_that_the_hub_does_not_know():
    assert check_license("apache-2.0") == "apache-2.0"
    with pytest.raises(ConfigError, match="'apache2' is not one .*did you mean 'apache-2.0'"):
        check_license("apache2")


def test_every_restricted_family_is_one_that_a_card_can_name():
    assert set(ON_OUTPUTS) <= KNOWN
    assert restriction("apache-2.0") is None
    assert restriction("mit") is None


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: qwen\n---\n", "qwen"),
        ("---\nlicense: other\n---\n", "other"),
        ("# no front matter", "unknown"),
        ("---\n- a list\n---\n", "unknown"),
        ("---\nlicense: [\n---\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_local_models_license_is_in_its_readme(tmp_path, card, found):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert license_of(used(tmp_path.name), {"model_name_or_path": str(tmp_path)}) == found


def test_a_hub_model_is_asked_for_its_card(hub):
    card = b"---\nlicense: gemma\n---\n"
    hub.repos["models/org/teacher"] = Repo(False, [{"README.md": card}], ["one"])
    assert license_of(used("org/teacher", is_on_hub=True), {}) == "gemma"
    assert license_of(used("org/nobody", is_on_hub=True), {}) == "unknown"


@pytest.mark.parametrize("is_recorded", [True, False])
def test_asking_for_a_license_does_not_move_what_a_name_stands_for(hub, tmp_path, is_recorded):
    from huggingface_hub import hf_hub_download

    repo = Repo(False, [{"config.json": b"{}", "README.md": b"---\nlicense: mit\n---\n"}], ["one"])
    hub.repos["models/org/teacher"] = repo
    hf_hub_download("org/teacher", "config.json")
    first = repo.oid()
    assert cached_commit("model", "org/teacher", None) == first
    repo.commits.append({**repo.files, "README.md": b"---\nlicense: gemma\n---\n"})
    recorded = first if is_recorded else None
    license_of(used("org/teacher", is_on_hub=True, revision=recorded), {})
    assert cached_commit("model", "org/teacher", None) == first


def test_a_local_model_is_not_looked_up_on_the_hub(hub):
    assert license_of(used("teacher"), {"model_name_or_path": "org/teacher"}) == "unknown"
    assert hub.calls == []


def test_models_that_are_not_repositories_are_not_looked_up(hub):
    scripted = {"model_name_or_path": "a/b", "engine": {"kind": "scripted"}}
    assert restriction(license_of(used("a/b"), scripted)) is None
    served = {"model_name_or_path": "gpt-large", "engine": {"kind": "openai"}}
    assert license_of(used("gpt-large"), served) == "unknown"
    assert hub.calls == []
