"""Licenses: those that the Hub knows, those of the models that were used, and what these ask for.

This is not legal advice: where terms are about training on outputs, the reader is sent to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_distill.engines.kinds import recorded_engine
from llm_distill.errors import ConfigError, nearest
from llm_distill.models.hub import cached_commit, is_offline
from llm_distill.paths import find_resource
from llm_distill.publish.lineage import OutsideModel

# The identifiers that a card may have: huggingface.co/docs/hub/repositories-licenses.
KNOWN = frozenset((Path(__file__).parent / "license_ids.txt").read_text("utf-8").split())
UNKNOWN = "unknown"
SCRIPTED = "none (scripted answers)"

_FORBIDS = "its terms forbid improving other language models with its outputs (section 1.b.v)"
_NAMES = (
    "its terms ask that a model trained on its outputs and made available has a name that begins "
    "with Llama, and displays 'Built with Llama' (section 1.b.i)"
)
_OWN_TERMS = "its terms are its owner's own; check what they say on training on its outputs"
# From the licenses' texts: Llama 2 and 3 section 1.b.v, Llama 3.1 and later section 1.b.i
# (llama.com/llama3/license, llama.com/llama3_1/license, ...), Gemma section 1.1 "Model Derivatives"
# (ai.google.dev/gemma/terms). The cc licenses say it in their names.
ON_OUTPUTS = {
    "llama2": _FORBIDS,
    "llama3": _FORBIDS,
    "llama3.1": _NAMES,
    "llama3.2": _NAMES,
    "llama3.3": _NAMES,
    "llama4": _NAMES,
    "gemma": "its terms count a model trained on its outputs as derived from Gemma, and the same "
    "terms must be passed on (section 1.1)",
    "other": _OWN_TERMS,
}
_FOR_RESEARCH = "its terms exclude commercial use"
_RESEARCH_ONLY = frozenset(
    {"fair-noncommercial-research-license", "apple-amlr", "deepfloyd-if-license", "intel-research"}
)


def check_license(identifier: str) -> str:
    """The identifier, if a card may have it.

    Raises:
        ConfigError: The Hub does not know it.
    """
    if identifier not in KNOWN:
        raise ConfigError(
            f"license '{identifier}' is not one that the Hub knows; {nearest(identifier, KNOWN)}; "
            "all: https://huggingface.co/docs/hub/repositories-licenses"
        )
    return identifier


def restriction(license_id: str) -> str | None:
    """What a license says that matters to models trained on its model's outputs; None: nothing."""
    if license_id == UNKNOWN:
        return "its license is not known here; check whether its outputs may be trained on"
    if "-nc" in license_id or license_id in _RESEARCH_ONLY:
        return _FOR_RESEARCH
    if license_id not in KNOWN and license_id != SCRIPTED:
        return _OWN_TERMS
    return ON_OUTPUTS.get(license_id)


def license_of(model: OutsideModel, entry: Mapping[str, Any]) -> str:
    """A model's license, from its model card; "unknown" if it does not say.

    The card is on the Hub, which is asked unless the client has it cached, or is the README.md of a
    local model's directory. The name that a server gives its model may be one on the Hub.

    Args:
        model: The model.
        entry: Its entry under `models:`; empty if unknown.
    """
    engine = recorded_engine(entry.get("engine") or {})
    path = entry.get("model_name_or_path")
    is_served = engine.is_served() and not (entry.get("engine") or {}).get("adapters")
    if engine.is_stand_in:
        return SCRIPTED
    if model.is_on_hub or (is_served and model.path.strip("/").count("/") == 1):
        return _license_in(_hub_card(model.path, model.revision))
    folder = find_resource(str(path)) if path and not is_served else None
    return UNKNOWN if folder is None else _license_in(folder / "README.md")


def _hub_card(name: str, revision: str | None) -> Path | None:
    """The model's card at the commit that was used.

    Downloading by branch would move that branch in the client's cache, and so change what the next
    run of a pipeline takes for the model; downloading by commit does not.
    """
    from huggingface_hub import hf_hub_download

    commit = cached_commit("model", name, revision)
    if is_offline() and commit is None:
        return None
    try:
        return Path(hf_hub_download(name, "README.md", revision=commit or revision))
    except Exception:  # the client raises a dozen kinds; none of them must stop a push
        return None


def _license_in(card: Path | None) -> str:
    """`license` in a card's front matter, or `license_name` if that is `other`."""
    from huggingface_hub import RepoCard

    if card is None or not card.is_file():
        return UNKNOWN
    try:
        data = RepoCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    except Exception:  # somebody else's file
        return UNKNOWN
    declared = data.get("license") or UNKNOWN
    if isinstance(declared, list):
        declared = declared[0] if declared else UNKNOWN
    named = data.get("license_name")
    return str(named) if declared == "other" and isinstance(named, str) else str(declared)
