"""Files to a repository on the Hub, in one commit.

A push that was stopped can be resumed: large files that arrived are not sent again (the server says
which it has), small ones are part of the commit, and nothing is committed if nothing has changed.
The client itself retries requests that are safe to repeat.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from llm_distill.errors import ConfigError, HubError
from llm_distill.models.hub import is_offline
from llm_distill.publish.package import Package

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
GO_ON = "what has arrived is kept there: the same command resumes and sends no file twice"
# Files of an earlier push that would be loaded with those of this one; all others stay.
STALE = (
    "*.safetensors",
    "*.safetensors.index.json",
    "adapter_config.json",
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
)
STALE_ROWS = ("data/train-*.parquet",)


@dataclass(frozen=True)
class Pushed:
    """Where a push went."""

    commit: str
    url: str


def check_repo_id(repo_id: str) -> str:
    """The repository's name, if the Hub accepts it.

    Raises:
        ConfigError: It does not, or there is no namespace.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"repo id '{repo_id}': {error}") from error
    if "/" not in repo_id:
        raise ConfigError(
            f"repo id '{repo_id}' has no owner; write NAMESPACE/NAME, with your name on the Hub "
            "or an organization's in front"
        )
    return repo_id


def check_can_push() -> None:
    """Check what can be checked without asking the Hub.

    Raises:
        HubError: There is no token, or the client is set to be offline.
    """
    from huggingface_hub import get_token

    if is_offline():
        raise HubError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
    if get_token() is None:
        raise HubError(f"there is no token for the Hub; {LOG_IN}")


def push(
    package: Package, repo_id: str, *, private: bool, message: str, revision: str | None = None
) -> Pushed:
    """Commit the package's files to the repository, which is created if needed.

    revision: a branch, which is created if needed; None: the main one.

    Raises:
        HubError: The Hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    check_can_push()
    api = HfApi()
    with _hub_errors(repo_id):
        url = api.create_repo(repo_id, private=private, repo_type=package.repo_type, exist_ok=True)
        there = _files_there(api, repo_id, package, private)
        if revision is not None:
            kind = package.repo_type
            api.create_branch(repo_id, branch=revision, repo_type=kind, exist_ok=True)
            there = set(api.list_repo_files(repo_id, revision=revision, repo_type=kind))
        additions = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=file)
            for name, file in package.files.items()
        ]
        patterns = STALE if package.repo_type == "model" else STALE_ROWS
        deletions = [
            CommitOperationDelete(path_in_repo=name, is_folder=False)
            for name in sorted(there - set(package.files))
            if any(_is_match(name, pattern) for pattern in patterns)
        ]
        done = api.create_commit(
            repo_id,
            [*additions, *deletions],
            commit_message=message,
            repo_type=package.repo_type,
            revision=revision,
        )
    place = "" if revision is None else f"/tree/{revision}"
    return Pushed(done.oid, f"{url}{place}")


def _is_match(name: str, pattern: str) -> bool:
    """Whether the name matches, in the pattern's folder and not below it."""
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)


def _files_there(api: HfApi, repo_id: str, package: Package, private: bool) -> set[str]:
    """The repository's files; a private push to a public repository is refused."""
    info: Any = api.repo_info(repo_id, repo_type=package.repo_type)
    if private and info.private is False:
        raise HubError(
            f"'{repo_id}' exists and is public, and this push is private; "
            "push with --public (in a pipeline: private: false), or take another name"
        )
    return {sibling.rfilename for sibling in info.siblings or ()}


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # the client raises a dozen kinds, some of them wrapped
        message = _explain(error, repo_id)
        if message is None:
            raise
        raise HubError(message) from error


def _explain(error: BaseException, repo_id: str) -> str | None:
    """The message for an error of the Hub or the network; None for other errors."""
    from huggingface_hub.errors import HfHubHTTPError

    if "Invalid metadata in README.md" in str(error):
        return f"'{repo_id}': the Hub refuses the card: {' '.join(str(error).split())}"
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, HfHubHTTPError):
            return _explain_status(link, repo_id)
    root = chain[-1]
    reason = f"{root}".strip().partition("\n")[0] or type(root).__name__
    of_network = type(root).__module__.partition(".")[0].startswith(("http", "hf_xet"))
    if of_network or isinstance(root, (ConnectionError, TimeoutError, RuntimeError)):
        endpoint = os.environ.get("HF_ENDPOINT", "the Hub")
        return f"the connection to {endpoint} broke while pushing '{repo_id}' ({reason}); {GO_ON}"
    return None


def _explain_status(error: Any, repo_id: str) -> str:
    status, said = error.response.status_code, error.server_message or ""
    reason = f" ({said})" if said else ""
    if status == 401:
        return f"the Hub does not accept the token{reason}; {LOG_IN} again"
    if status == 403:
        return (
            f"the token may not write to '{repo_id}'{reason}; it needs write permission there: "
            "https://huggingface.co/settings/tokens"
        )
    if status == 404:
        return f"the Hub has no '{repo_id}' that the token may see{reason}"
    if status in (409, 412):
        return f"someone else is changing '{repo_id}'{reason}; {GO_ON}"
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        pause = f"{wait} seconds" if wait else "a few minutes"
        return f"the Hub asks to slow down{reason}; wait {pause}; {GO_ON}"
    if status >= 500:
        return f"the Hub has an internal error (status {status}){reason}; {GO_ON}"
    return f"the Hub refuses the push of '{repo_id}' (status {status}){reason}"
