"""Where an artifact comes from: its manifest, and those of all that it was made from.

Manifests name their inputs' artifacts, which are in the same folder, with the digest of their
content. One that has been removed, or made again with another content, is not an error: the cards
mention the gap. One that is not what its manifest says is: nothing of it may be quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

from llm_distill.errors import DataError, WorkspaceError
from llm_distill.integrity import DamagedError, check_files, checked_manifest
from llm_distill.manifest import Manifest, ModelUsed

READ_UP_TO = 2**20
"""Bytes. Larger files of what is upstream are compared by size: reading them takes minutes."""
DIGEST_LENGTH = 64  # digits of a file's sha256; a commit on the Hub has 40


@dataclass(frozen=True)
class OutsideModel:
    """A model from outside the pipeline: an entry under `models:`.

    Attributes:
        path: Its name on the Hub or on a server; of a local directory only the last part.
        stages: Those that asked it or started from it.
        is_on_hub: Whether the run had it from there, whatever folders there are now.
    """

    name: str
    path: str
    revision: str | None
    stages: tuple[str, ...]
    is_on_hub: bool


@dataclass(frozen=True)
class Source:
    """Rows from outside, read by `load_dataset`; is_on_hub: whether `path` is a name there."""

    stage: str
    path: str
    name: str | None
    split: str
    revision: str | None
    is_on_hub: bool


@dataclass(frozen=True)
class Lineage:
    """An artifact and everything upstream of it.

    Attributes:
        path: The artifact.
        manifests: By artifact, each after those of its inputs; the artifact's own is last.
        missing: Artifacts that are named as inputs and are no longer what was read: `clean-0a1b…
            (removed)`.
    """

    path: Path
    manifests: dict[str, Manifest]
    missing: tuple[str, ...]

    @property
    def manifest(self) -> Manifest:
        return self.manifests[self.path.name]

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(manifest.name for manifest in self.manifests.values()))

    @cached_property
    def models(self) -> list[OutsideModel]:
        """The models from outside, in the order in which they were first used."""
        found: dict[str, OutsideModel] = {}
        for manifest in self.manifests.values():
            for name, model in manifest.models.items():
                if name in manifest.inputs:  # trained in the pipeline
                    continue
                before = found[name].stages if name in found else ()
                stages = (*before, manifest.name)
                found[name] = OutsideModel(
                    name, model.path, model.revision, stages, _is_from_hub(model)
                )
        return list(found.values())

    @cached_property
    def base(self) -> OutsideModel | None:
        """The outside model that a trained model goes back to; None for rows."""
        started_from = [start for _, start in self.trainings]
        name = started_from[-1] if started_from else None
        return next((model for model in self.models if model.name == name), None)

    @cached_property
    def trainings(self) -> list[tuple[Manifest, str]]:
        """From a model back to its base: each manifest, and the model that it started from."""
        steps: list[tuple[Manifest, str]] = []
        manifest: Manifest | None = self.manifest
        while manifest is not None and manifest.is_model and manifest.models:
            start = manifest.settings.get("model") or next(iter(manifest.models))
            steps.append((manifest, start))
            manifest = self.input_of(manifest, start)
        return steps

    def input_of(self, manifest: Manifest, reference: str | None) -> Manifest | None:
        """What a stage read under a reference; None if that is from outside or was removed."""
        found = None if reference is None else manifest.inputs.get(reference)
        return None if found is None else self.manifests.get(found.artifact)

    @property
    def others(self) -> list[OutsideModel]:
        """The models besides the base: teachers, and others that had a part in the data."""
        return [model for model in self.models if model != self.base]

    @property
    def sources(self) -> list[Source]:
        """The rows from outside that were read, even if only to decontaminate against them."""
        return [_source(m) for m in self.manifests.values() if m.stage == "load_dataset"]

    @property
    def data_sources(self) -> list[Source]:
        """The rows from outside except those that were only decontaminated against."""
        used: set[str] = set()
        for address in reversed(self.manifests):  # each before its inputs
            if used and address not in used:
                continue
            manifest = self.manifests[address]
            kept_out = manifest.settings.get("against", ())
            named = manifest.inputs.items()
            used.add(address)
            used.update(entry.artifact for name, entry in named if name not in kept_out)
        stages = {self.manifests[address].name for address in used & set(self.manifests)}
        return [source for source in self.sources if source.stage in stages]


def read_lineage(path: Path) -> Lineage:
    """The lineage of the artifact at `path`.

    Raises:
        DataError: There is no artifact.
        WorkspaceError: It, or one upstream of it, is damaged.
    """
    found: dict[str, Manifest] = {}
    missing: dict[str, str] = {}
    read_by: dict[str, list[str]] = {}
    addresses = [path.name]
    contents: dict[str, str] = {}
    for address in addresses:  # grows
        if address in read_by:
            continue
        manifest = quoted_manifest(path.parent / address)
        read_by[address] = []
        if manifest is None:
            was_pruned = (path.parent / ".pruned" / address).exists()
            missing[address] = "pruned" if was_pruned else "removed"
        elif contents.get(address, manifest.content_digest) != manifest.content_digest:
            missing[address] = "made again since, with another content"
        else:
            found[address] = manifest
            for entry in manifest.inputs.values():
                read_by[address].append(entry.artifact)
                contents.setdefault(entry.artifact, entry.content_digest)
            addresses += read_by[address]
    if path.name not in found:
        raise DataError(f"{path.name} is not an artifact of a stage: it has no manifest")
    ordered = TopologicalSorter(read_by).static_order()
    manifests = {address: found[address] for address in ordered if address in found}
    gaps = tuple(f"{address} ({why})" for address, why in missing.items())
    return Lineage(path, manifests, gaps)


def quoted_manifest(path: Path) -> Manifest | None:
    """The manifest of an artifact that is what it says; None where there is none.

    Raises:
        WorkspaceError: It was edited, is another artifact's, or files are not as it states.
    """
    if not path.exists():
        return None
    try:
        manifest = checked_manifest(path)
        check_files(path, manifest, READ_UP_TO)
    except DamagedError as damaged:
        raise WorkspaceError(
            f"{path} is damaged ({damaged}), and the card would quote it; run the pipeline again, "
            "which makes it anew, or delete that folder: the card then says that it is gone"
        ) from damaged
    return manifest


def _is_from_hub(model: ModelUsed) -> bool:
    identity = model.identity
    while isinstance(identity, Mapping) and "base" in identity:  # under adapters
        identity = identity["base"]
    return isinstance(identity, Mapping) and "hub" in identity


def _source(manifest: Manifest) -> Source:
    """Settings and sources may be another version's, so that nothing of them is certain."""
    settings, digests = manifest.settings, manifest.identity.get("sources")
    path, name = str(settings.get("path", "unknown")), settings.get("name")
    # The manifest has the digest of each file, or the commit of a name on the Hub.
    commit = digests.get(path) if isinstance(digests, dict) and list(digests) == [path] else None
    is_on_hub = isinstance(commit, str) and len(commit) != DIGEST_LENGTH
    return Source(
        stage=manifest.name,
        path=path,
        name=name if isinstance(name, str) else None,
        split=str(settings.get("split", "unknown")),
        revision=commit if is_on_hub else None,
        is_on_hub=is_on_hub,
    )
