"""The manifest in every artifact's folder: its fields, and how it is read and written.

Fields that were added later have defaults, so that manifests of older versions can be read. Those
of newer versions can be read too: unknown keys are ignored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from llm_distill.digests import fingerprint

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
MOST_NAME_BYTES = 255
_DIGEST = "manifest_digest"


def _is_folder_name(name: str) -> str:
    if not name or "/" in name or "\0" in name or name.startswith("."):
        raise ValueError("not the name of an artifact's folder")
    if len(name.encode("utf-8", "replace")) > MOST_NAME_BYTES:
        raise ValueError(f"longer than the {MOST_NAME_BYTES} bytes of a file's name")
    return name


ArtifactName = Annotated[str, AfterValidator(_is_folder_name)]
"""The name of an artifact's folder: `answers-0a1b2c3d4e5f`."""


class InputRef(BaseModel, extra="ignore", frozen=True):
    """The artifact that a reference to another stage resolved to, by the name of its folder."""

    artifact: ArtifactName
    content_digest: str


class FileDigest(BaseModel, extra="ignore", frozen=True):
    """A file of the artifact. sha256: 64 hex digits; bytes: its size."""

    sha256: str
    bytes: int


class ModelUsed(BaseModel, extra="ignore", frozen=True):
    """A model that a stage asked, scored with or started from.

    path: its name on the Hub or on a server; of a local directory the last part only.
    adapters: the names of the artifacts that were loaded on top of it, from the base up.
    identity: the digest of its weights, or what else identifies it (see `runtime.resolve`).
    """

    path: str
    revision: str | None = None
    adapters: tuple[str, ...] = ()
    identity: Any = None


class Pace(BaseModel, extra="ignore", frozen=True):
    """How fast a piece of a stage's work went, for the time left of the next.

    first: how many units came first, together. start: seconds until then, in which a model may
        have been loaded. units: those after them. seconds: from the first to the last.
    """

    first: int
    start: float
    units: int
    seconds: float

    @property
    def seconds_of_work(self) -> float:
        """What all units would have taken at the rate of those after the first."""
        return self.seconds * (self.first + self.units) / self.units if self.units else 0.0


class Manifest(BaseModel, extra="ignore", frozen=True):
    """What an artifact says of itself. The fields are in the order of the file.

    name: the stage's name in the pipeline; stage: its kind.
    identity: all that could change the result. fingerprint: its digest.
    settings: all of the stage's settings, including those that cannot change the result.
    inputs, models: by reference.
    features: the columns as `datasets.Features.to_dict` has them; None for a model.
    rows_out: rows of the artifact; None for a model. rows_in: rows that were read.
    dropped: rows that were left out, by reason.
    completions: how many, by where they came from ("made", "reused").
    tokens_in, tokens_out: of the completions that were made.
    cost: what servers charged, in the currency of their price.
    tokens_by_model: of all completions, made and reused, by the model's name in the pipeline.
    failed: answers that a server did not give after all attempts, and may give another time.
    texts: files beside the rows that are for people.
    paces: by what a bar said, such as `generate (teacher)`.
    created: seconds since 1970.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    stage: str
    pipeline: str = ""
    fingerprint: str
    identity: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    inputs: dict[str, InputRef] = Field(default_factory=dict)
    models: dict[str, ModelUsed] = Field(default_factory=dict)
    features: dict[str, Any] | None = None
    rows_out: int | None = None
    seconds: float = 0.0
    rows_in: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    completions: dict[str, int] = Field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    tokens_by_model: dict[str, int] = Field(default_factory=dict)
    failed: int = 0
    metrics: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    paces: dict[str, Pace] = Field(default_factory=dict)
    packages: dict[str, str] = Field(default_factory=dict)
    device: str = ""
    git_commit: str | None = None
    content_digest: str
    files: dict[str, FileDigest]
    created: float

    @property
    def is_model(self) -> bool:
        """Whether the artifact is a model or an adapter, and not rows."""
        return self.features is None

    def text(self) -> str:
        """The content of its file, with its digest at the end.

        Raises:
            ValueError: a figure is NaN or infinite.
        """
        raw = self.model_dump()
        for later in (
            "failed",
            "paces",
            "tokens_by_model",
        ):  # as in all manifests from before there were these
            if not raw[later]:
                del raw[later]
        raw[_DIGEST] = manifest_digest(raw)
        return json.dumps(raw, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def raw_manifest(directory: Path) -> dict[str, Any] | None:
    """The JSON of an artifact's manifest as it is in the file; None if it cannot be read."""
    try:
        raw = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def manifest_digest(raw: dict[str, Any]) -> str:
    """The digest of all fields of a manifest except the digest itself.

    It is taken over the JSON as it is in the file, never over a `Manifest`, so that a manifest
    with unknown fields still agrees with its digest.

    Raises:
        ValueError: a figure is NaN or infinite.
    """
    return fingerprint({k: v for k, v in raw.items() if k != _DIGEST})


def is_as_written(raw: dict[str, Any]) -> bool:
    """Whether a manifest agrees with its digest; False with NaN, which is never written."""
    try:
        return bool(raw.get(_DIGEST) == manifest_digest(raw))
    except ValueError:
        return False


def read_manifest(directory: Path) -> Manifest | None:
    """An artifact's manifest, its digest unchecked; None if it cannot be read."""
    raw = raw_manifest(directory)
    try:
        return None if raw is None else Manifest.model_validate(raw)
    except ValidationError:
        return None
