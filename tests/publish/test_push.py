"""Pushes through the real client to a loopback Hub that fails in every way that Hubs do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError, HubError
from llm_distill.publish.package import Package
from llm_distill.publish.push import check_repo_id, push
from tests.publish.loopback_hub import Fault, LoopbackHub, Repo

CARD = b"---\nlicense: mit\n---\n\n# A model\n"


@pytest.fixture
def model(tmp_path: Path) -> Package:
    """Two large files and two small ones."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in (
        ("model-1.safetensors", b"1" * 300_000),
        ("model-2.safetensors", b"2" * 300_000),
        ("config.json", b"{}"),
    ):
        (folder / name).write_bytes(content)
    files: dict[str, Any] = {path.name: path for path in folder.iterdir()}
    return Package("model", {**files, "README.md": CARD}, ())


def sha256(package: Package, name: str) -> str:
    file = package.files[name]
    assert isinstance(file, Path)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def send(package: Package, private: bool = True) -> Any:
    return push(package, "me/toy", private=private, message="Push it")


def test_what_is_pulled_back_is_what_was_pushed_and_it_was_one_commit(hub, model, tmp_path):
    from huggingface_hub import snapshot_download

    done = send(model)
    assert done.url == f"{hub.url}/me/toy"
    repo = hub.repos["models/me/toy"]
    assert repo.private
    assert repo.messages == ["initial commit", "Push it"]
    assert done.commit == repo.oid()
    back = Path(snapshot_download("me/toy", revision=done.commit, cache_dir=tmp_path / "pulled"))
    for name, file in model.files.items():
        sent = file if isinstance(file, bytes) else file.read_bytes()
        assert (back / name).read_bytes() == sent, name


def test_a_branch_is_made_and_main_stays_as_it_was(hub, model):
    done = push(model, "me/toy", private=True, message="Push it", revision="v2")
    assert done.url == f"{hub.url}/me/toy/tree/v2"
    assert set(hub.repos["models/me/toy"].files) == {".gitattributes"}
    branch = hub.repos["models/me/toy@v2"]
    assert set(model.files) < set(branch.files)
    del model.files["model-2.safetensors"]
    push(model, "me/toy", private=True, message="Push it", revision="v2")
    assert "model-2.safetensors" not in branch.files
    assert len(hub.repos["models/me/toy"].commits) == 1


def test_nothing_changed_makes_no_commit_and_sends_nothing(hub, model):
    first = send(model)
    n_uploads = len(hub.uploads)
    assert send(model).commit == first.commit
    assert len(hub.repos["models/me/toy"].commits) == 2
    assert len(hub.uploads) == n_uploads == 2


def test_only_what_changed_is_sent(hub, model):
    send(model)
    file = model.files["model-2.safetensors"]
    assert isinstance(file, Path)
    file.write_bytes(b"3" * 1000)
    send(model)
    assert hub.uploads[2:] == [sha256(model, "model-2.safetensors")]
    assert hub.repos["models/me/toy"].files["model-2.safetensors"] == b"3" * 1000


def test_weights_of_an_earlier_push_are_deleted_and_the_owners_files_stay(hub, model):
    read = ("adapter_config.json", "model.safetensors", "generation_config.json")
    own = ("LICENSE", "gguf/model.safetensors", "extra/config.json")
    before = dict.fromkeys((*read, "chat_template.jinja", *own), b"{}")
    hub.repos["models/me/toy"] = Repo(True, [before], ["by hand"])
    send(model)
    assert set(hub.repos["models/me/toy"].files) == {*model.files, *own}


def test_a_public_repository_does_not_get_a_private_push(hub, model):
    hub.repos["models/me/toy"] = Repo(False, [{}], ["by hand"])
    with pytest.raises(HubError, match="is public, and this push is private; push with --public"):
        send(model)
    assert hub.uploads == []
    send(model, private=False)
    assert len(hub.repos["models/me/toy"].commits) == 2


@pytest.mark.parametrize("n_cuts", [1, 5])
def test_the_client_sends_a_file_again_after_the_connection_broke(hub, model, n_cuts):
    hub.faults.extend([Fault("PUT", sha256(model, "model-2.safetensors"), cut_after=1000)] * n_cuts)
    send(model)
    assert not hub.faults
    assert len(hub.waits) == n_cuts
    assert sorted(hub.uploads) == sorted(sha256(model, f"model-{i}.safetensors") for i in (1, 2))


def test_a_connection_that_stays_broken_is_one_message_and_the_next_push_goes_on(hub, model):
    two = sha256(model, "model-2.safetensors")
    hub.faults.extend([Fault("PUT", two, cut_after=1000)] * 6)
    with pytest.raises(HubError) as raised:
        send(model)
    assert f"the connection to {hub.url} broke while pushing 'me/toy'" in str(raised.value)
    assert "the same command resumes and sends no file twice" in str(raised.value)
    assert hub.uploads == [sha256(model, "model-1.safetensors")]
    assert len(hub.repos["models/me/toy"].commits) == 1  # nothing is half there
    send(model)
    assert hub.uploads == [sha256(model, "model-1.safetensors"), two]
    assert hub.repos["models/me/toy"].files["model-2.safetensors"] == b"2" * 300_000


def test_an_answer_to_the_commit_that_is_lost_makes_no_second_commit(hub, model, monkeypatch):
    lose = True
    handler = hub._server.RequestHandlerClass
    answer = handler._json

    def losing(self: Any, value: Any, *rest: Any) -> None:
        nonlocal lose
        if "commitOid" in value and lose:
            lose = False
            return self._cut()
        answer(self, value, *rest)

    monkeypatch.setattr(handler, "_json", losing)
    with pytest.raises(HubError, match="broke while pushing"):
        send(model)
    assert send(model).commit == hub.repos["models/me/toy"].oid()
    assert hub.repos["models/me/toy"].messages == ["initial commit", "Push it"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("POST", "create", 401, "Bad token"), r"does not accept the token .*hf auth login"),
        (
            Fault("POST", "create", 403, "Not yours"),
            r"may not write to 'me/toy' .*write permission",
        ),
        (Fault("POST", "preupload", 403, "Read only"), r"may not write to 'me/toy' \(.*Read only"),
        (Fault("POST", "/commit/", 403, "Read only"), r"may not write to 'me/toy' \(.*Read only"),
        (Fault("POST", "/commit/", 409, "Busy"), r"someone else is changing 'me/toy' .*Busy"),
        (Fault("POST", "/commit/", 412, "Moved"), r"someone else is changing 'me/toy'"),
        (
            Fault("POST", "/commit/", 429, "Slow", headers={"Retry-After": "30"}),
            r"slow down .*Slow.*; wait 30 seconds; .*sends no file twice",
        ),
        (Fault("POST", "create", 429, "Slow"), r"slow down .*; wait a few minutes"),
        (Fault("POST", "/commit/", 503, "Down"), r"internal error \(status 503\)"),
        (Fault("POST", "/commit/", 413, "Too big"), r"refuses the push .*\(status 413\).*Too big"),
        (Fault("GET", "/api/models", 404, "gone"), r"has no 'me/toy' that the token may see"),
    ],
)
def test_each_refusal_is_one_message_and_the_same_push_ends_it(hub, model, fault, message):
    hub.faults.append(fault)
    with pytest.raises(HubError, match=message) as raised:
        send(model)
    assert "\n" not in str(raised.value)
    assert "hf_" not in str(raised.value)
    send(model)
    assert len(hub.repos["models/me/toy"].commits) == 2
    assert len(hub.uploads) == len(set(hub.uploads)) == 2


def test_being_told_to_slow_down_is_heeded(hub, model):
    hub.faults.append(Fault("POST", "preupload", 429, "Slow", headers={"Retry-After": "7"}))
    hub.faults.append(Fault("POST", "objects/batch", 429, "Slow", headers={"Retry-After": "9"}))
    hub.faults.append(Fault("PUT", "/lfs/", 429, "Slow", headers={"Retry-After": "11"}))
    send(model)
    assert sorted(wait - 1 for wait in hub.waits) == [7, 9, 11]  # the client adds a second
    assert len(hub.uploads) == 2


def test_slow_down_without_end_is_one_message(hub, model):
    hub.faults.extend([Fault("PUT", "/lfs/", 429, "Slow", headers={"Retry-After": "7"})] * 12)
    with pytest.raises(HubError, match="slow down .*wait 7 seconds"):
        send(model)


def test_a_repository_that_is_there_already_is_pushed_to(hub, model):
    hub.repos["models/me/toy"] = Repo(True, [{}], ["by hand"])
    send(model)
    assert hub.called("POST", "/api/repos/create") == 1
    assert hub.repos["models/me/toy"].messages == ["by hand", "Push it"]


def test_a_wrong_or_missing_token(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="does not accept the token"):
        send(model)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"no token for the Hub; log in with `hf auth login`"):
        send(model)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        send(model)


def test_a_refused_card_is_an_error_before_anything_is_sent(hub, model):
    model.files["README.md"] = b"---\nlicense: my-own\n---\n"
    with pytest.raises(HubError, match=r"the Hub refuses the card: .*license.* must be one of"):
        send(model)
    assert hub.uploads == []


def test_nobody_at_the_address(hub: LoopbackHub, model: Package) -> None:
    hub.close()
    with pytest.raises(HubError, match="the connection to http://127.0.0.1:.* broke"):
        send(model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("toy", "has no owner; write NAMESPACE/NAME"),
        ("a/b/c", "repo id 'a/b/c'"),
        ("me/to y", "repo id 'me/to y'"),
        ("me/a--b", "Cannot have -- or .."),
        ("", "repo id ''"),
    ],
)
def test_invalid_repo_ids(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_repo_id(name)
