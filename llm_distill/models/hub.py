"""Which commit a name on the Hub stands for.

The Hub client's own cache is the memory: a name stays at the commit that was downloaded last, so a
pipeline's results do not change because the Hub's do. To hold it for good, set `revision` to a
commit; to move on, clear the name from the cache.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import constants

from llm_distill.models.files import model_beside

Kind = Literal["model", "dataset"]

log = logging.getLogger("llm_distill")

SECONDS_TO_ANSWER = 10.0
WEIGHTS = (".safetensors", ".bin")
SMALL_FILE = {"model": "config.json", "dataset": "README.md"}


def cached_commit(kind: Kind, name: str, revision: str | None) -> str | None:
    """The commit that a branch or tag had when it was last downloaded; without the network."""
    folder = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"
    if revision and (folder / "snapshots" / revision).is_dir():
        return revision  # it is a commit already
    try:
        return (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def cached_folder(name: str, revision: str | None) -> Path | None:
    """What was downloaded of a model, all or a part of it."""
    commit = cached_commit("model", name, revision)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    found = folder / "snapshots" / str(commit)
    return found if commit is not None and found.is_dir() else None


def cached_text(name: str, file: str, revision: str | None) -> str | None:
    """A text file of a model as it was downloaded; without the network."""
    folder = cached_folder(name, revision)
    try:
        return None if folder is None else (folder / file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def learn_text(name: str, file: str, revision: str | None) -> None:
    """Make the cache know a small file of a model. Failing is no error, as in `learn_commit`."""
    if is_offline() or cached_text(name, file, revision) is not None:
        return
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, file, revision=revision)
    except Exception as error:  # the client raises a dozen kinds; the file may not exist
        log.info("%s of model %s is not known: %s", file, name, error)


def is_offline() -> bool:
    """Whether the Hub's client is told to stay off the network."""
    return constants.HF_HUB_OFFLINE


def learn_commit(kind: Kind, name: str, revision: str | None) -> None:
    """Make the cache know a name's commit, by downloading a small file of it.

    Failing is not an error here: whatever loads the name says what is wrong with it.
    """
    if is_offline() or cached_commit(kind, name, revision) is not None:
        return
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, SMALL_FILE[kind], repo_type=kind, revision=revision)
    except Exception as error:  # the client raises a dozen kinds
        log.info("the commit of %s %s is not known: %s", kind, name, error)


@dataclass(frozen=True)
class Absence:
    """Why a model cannot be had. is_certain: the Hub says that it has none of this name."""

    why: str
    is_certain: bool = False


def is_downloaded(name: str, revision: str | None) -> bool:
    """Whether weights of a model of the Hub are on this machine."""
    folder = cached_folder(name, revision)
    return folder is not None and any(p.suffix in WEIGHTS for p in folder.rglob("*"))


def why_not_there(name: str, revision: str | None) -> str | None:
    """The words of `absence`."""
    absent = absence(name, revision)
    return None if absent is None else absent.why


def absence(name: str, revision: str | None) -> Absence | None:
    """Why a model of the Hub can be neither found here nor downloaded; None: it may be.

    Asks the Hub, with the user's token, only about what is not here. What it answers in trouble of
    its own says nothing about the model.
    """
    if is_downloaded(name, revision):
        return None
    beside = model_beside(name)
    meant = "" if beside is None else f"did you mean '{beside}'? Else "
    at = f"{name} (revision {revision})" if revision else name
    absent = f"{at} is neither a directory nor in the Hub's cache ({constants.HF_HUB_CACHE})"
    if is_offline():
        return Absence(
            f"{absent}, and HF_HUB_OFFLINE is set; {meant}download it where there is a network "
            f"(hf download {name}), or unset HF_HUB_OFFLINE"
        )
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(name, SMALL_FILE["model"], revision=revision)
    try:
        get_hf_file_metadata(url, timeout=SECONDS_TO_ANSWER)
    except errors.GatedRepoError:
        return Absence(
            f"{at} is gated, and your token, if there is one, has no access: ask for it at "
            f"{constants.ENDPOINT}/{name}, then log in (hf auth login) or set HF_TOKEN"
        )
    except errors.RevisionNotFoundError:
        return Absence(f"{name} has no revision {revision} on the Hub")
    except errors.RepositoryNotFoundError:
        return Absence(
            f"{at} is neither a directory nor on the Hub, or it is private: {meant}mend the name, "
            "or log in (hf auth login) or set HF_TOKEN",
            is_certain=True,
        )
    except errors.HfHubHTTPError as error:
        log.info("the Hub does not say whether it has %s: %s", name, error)
    except Exception as error:  # of the HTTP library, which is not the same in every version
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        return Absence(
            f"{absent}, and the Hub ({constants.ENDPOINT}) cannot be reached: {why}; {meant}"
            f"download it where there is a network (hf download {name}), or see that this "
            "machine has one"
        )
    return None
