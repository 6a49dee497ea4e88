"""The files of a repository: those of a model or dataset, the card, and the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_distill.errors import DataError, ModelError, WorkspaceError
from llm_distill.manifest import MANIFEST
from llm_distill.publish.cards import RECIPE, Origin, recipe_text
from llm_distill.publish.dataset_card import dataset_card
from llm_distill.publish.lineage import Lineage
from llm_distill.publish.model_card import model_card
from llm_distill.rows.conversation_forms import Form
from llm_distill.rows.messages import as_objects
from llm_distill.rows.written_conversations import WrittenConversations, listed

if TYPE_CHECKING:
    from datasets import Dataset, Features

RepoType = Literal["model", "dataset"]
CARD = "README.md"
ADAPTER_CONFIG = "adapter_config.json"
BYTES_A_FILE = 500_000_000
"""Size in memory of the rows in a Parquet file; the default of `Dataset.push_to_hub`."""

# The manifest's settings have paths of this machine; what matters of it is in the card.
_NOT_PUSHED = frozenset({MANIFEST, CARD, RECIPE})
_RUNS_CODE = (".bin", ".pt", ".pth", ".pkl", ".py")


@dataclass(frozen=True)
class Package:
    """What a repository is to have.

    Attributes:
        files: path in the repository to a local file or bytes.
        dropped: how many rows are not in it, by the reason.
    """

    repo_type: RepoType
    files: dict[str, Path | bytes]
    warnings: tuple[str, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def card(self) -> str:
        card = self.files[CARD]
        assert isinstance(card, bytes)
        return card.decode()

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(file) if isinstance(file, bytes) else file.stat().st_size
            for name, file in sorted(self.files.items())
        }


def package(
    origin: Origin,
    repo_id: str,
    license_id: str | None,
    work_dir: Path,
    directory: Path | None = None,
    conversation_form: Form | None = None,
) -> Package:
    """The files to push of an artifact.

    Args:
        origin: What its card is written from.
        repo_id: The repository.
        license_id: What the user set.
        work_dir: Where a dataset's Parquet files are written.
        directory: The model's files if they are not the artifact's (it was merged).
        conversation_form: What the conversations of rows are written in; None: as they are.

    Raises:
        DataError: No row can be written in that form.
        ModelError: It is an adapter on what another stage trained, or has files that run code.
    """
    lineage = origin.lineage
    directory = directory or lineage.path
    if not lineage.manifest.is_model:
        return _dataset(origin, repo_id, license_id, work_dir, conversation_form)
    files = _model_files(lineage, directory)
    unsafe = [name for name in files if name.endswith(_RUNS_CODE)]
    if unsafe:
        raise ModelError(
            f"{lineage.path.name} has files that can run code when loaded ({', '.join(unsafe)}); "
            "only safetensors are pushed"
        )
    is_adapter = ADAPTER_CONFIG in files
    if is_adapter:
        _check_stands_alone(lineage)
    card = model_card(origin, repo_id, license_id, is_adapter=is_adapter)
    files[CARD], files[RECIPE] = card.text.encode(), recipe_text(origin).encode()
    return Package("model", files, card.warnings)


def _model_files(lineage: Lineage, directory: Path) -> dict[str, Path | bytes]:
    """What the stage made, and not whatever else lies in its folder.

    Raises:
        WorkspaceError: a file of the stage is a link, to who knows what.
    """
    if directory == lineage.path:
        names = sorted(lineage.manifest.files)
    else:  # merged for this push
        there = sorted(path for path in directory.rglob("*") if path.is_file())
        names = [path.relative_to(directory).as_posix() for path in there]
    links = [name for name in names if (directory / name).is_symlink()]
    if links:
        raise WorkspaceError(f"{directory / links[0]} is a link; put the file itself there")
    return {name: directory / name for name in names if Path(name).name not in _NOT_PUSHED}


def _dataset(
    origin: Origin, repo_id: str, license_id: str | None, work_dir: Path, form: Form | None
) -> Package:
    from datasets import load_from_disk

    # What datasets caches goes into the work directory: beside the rows it would stay there.
    rows = load_from_disk(str(origin.lineage.path))
    work_dir.mkdir(parents=True, exist_ok=True)
    published, written = as_objects(rows.features), None
    if form is not None and not (form == "openai" and "messages" in rows.features):
        written = WrittenConversations(form, rows.features)
        rows = _written(rows, written, work_dir)
        published = written.published()
    published, warnings = _readable(rows, published)
    if published != rows.features:
        rows = rows.cast(published, cache_file_name=str(work_dir / "cast.arrow"))
    n_files = max(1, -(-rows.data.nbytes // BYTES_A_FILE))
    files: dict[str, Path | bytes] = {}
    for index in range(n_files):
        name = f"train-{index:05d}-of-{n_files:05d}.parquet"
        rows.shard(n_files, index, contiguous=True).to_parquet(str(work_dir / name))
        files[f"data/{name}"] = work_dir / name
    card = dataset_card(origin, repo_id, license_id, rows.features, len(rows), form, written)
    files[CARD], files[RECIPE] = card.text.encode(), recipe_text(origin).encode()
    left_out = written.left_out if written else {}
    return Package(
        "dataset",
        files,
        (*(written.warnings() if written else ()), *warnings, *card.warnings),
        {f"{form}: {reason}": found.count for reason, found in left_out.items()},
    )


def _written(rows: Dataset, form: WrittenConversations, work_dir: Path) -> Dataset:
    """The rows in a form, without those that it cannot hold.

    Raises:
        DataError: none is left.
    """

    def write(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        each = zip(*batch.values(), strict=True)
        given = (dict(zip(batch, values, strict=True)) for values in each)
        kept = [row for row in map(form.write, given) if row is not None]
        return {name: [row[name] for row in kept] for name in form.features}

    found = rows.map(
        write,
        batched=True,
        remove_columns=rows.column_names,
        features=form.features,
        load_from_cache_file=False,
        cache_file_name=str(work_dir / "written.arrow"),
        new_fingerprint="written",  # or it would hash the function
    )
    if not len(found):
        why = listed(form.left_out, "row") or "there are none"
        raise DataError(
            f"conversation_form: no row can be written as {form.form}: {why}; choose another form"
        )
    return found


def _readable(rows: Dataset, published: Features) -> tuple[Features, list[str]]:
    """The types without `datasets.Json` for columns whose JSON its reader does not take.

    It knows whole numbers of 64 bits, and rewrites a column where one is longer.
    """
    from datasets import Features
    from datasets.utils.json import ujson_loads

    found, warnings = dict(published), []
    for name in (name for name in published if published[name] != rows.features[name]):
        for row in rows.select_columns(["id", name]):
            value = row[name] or []
            texts = [value] if isinstance(value, str) else [turn["tool_calls"] for turn in value]
            try:
                for text in filter(None, texts):
                    ujson_loads(text)
            except ValueError as error:
                found[name] = rows.features[name]
                warnings.append(
                    f"column '{name}' is pushed as JSON text: datasets cannot read that of row "
                    f"{row['id']} as objects ({error})"
                )
                break
    return Features(found), warnings


def _check_stands_alone(lineage: Lineage) -> None:
    """Refuse an adapter whose base was trained in this pipeline: others do not have that."""
    name = lineage.manifest.name
    under = lineage.trainings[0][1] if lineage.trainings else None
    if under in lineage.manifest.inputs:
        raise ModelError(
            f"'{name}' is an adapter on top of what stage '{under}' trained, which others do not "
            "have; push it merged: add --merge, or push what a merge_adapter stage gives"
        )
