"""The files of a repository: those of a model or dataset, the card, and the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm_distill.errors import ModelError, WorkspaceError
from llm_distill.manifest import MANIFEST
from llm_distill.publish.cards import RECIPE, Origin, recipe_text
from llm_distill.publish.dataset_card import dataset_card
from llm_distill.publish.lineage import Lineage
from llm_distill.publish.model_card import model_card
from llm_distill.rows.messages import as_objects

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
    """What a repository is to have; files: path in the repository to a local file or bytes."""

    repo_type: RepoType
    files: dict[str, Path | bytes]
    warnings: tuple[str, ...]

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
) -> Package:
    """The files to push of an artifact.

    Args:
        origin: What its card is written from.
        repo_id: The repository.
        license_id: What the user set.
        work_dir: Where a dataset's Parquet files are written.
        directory: The model's files if they are not the artifact's (it was merged).

    Raises:
        ModelError: It is an adapter on what another stage trained, or has files that run code.
    """
    lineage = origin.lineage
    directory = directory or lineage.path
    if not lineage.manifest.is_model:
        return _dataset(origin, repo_id, license_id, work_dir)
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


def _dataset(origin: Origin, repo_id: str, license_id: str | None, work_dir: Path) -> Package:
    from datasets import load_from_disk

    rows = load_from_disk(str(origin.lineage.path))
    if (published := as_objects(rows.features)) != rows.features:
        rows = rows.cast(published)
    n_files = max(1, -(-rows.data.nbytes // BYTES_A_FILE))
    files: dict[str, Path | bytes] = {}
    work_dir.mkdir(parents=True, exist_ok=True)
    for index in range(n_files):
        name = f"train-{index:05d}-of-{n_files:05d}.parquet"
        rows.shard(n_files, index, contiguous=True).to_parquet(str(work_dir / name))
        files[f"data/{name}"] = work_dir / name
    card = dataset_card(origin, repo_id, license_id, rows.features, len(rows))
    files[CARD], files[RECIPE] = card.text.encode(), recipe_text(origin).encode()
    return Package("dataset", files, card.warnings)


def _check_stands_alone(lineage: Lineage) -> None:
    """Refuse an adapter whose base was trained in this pipeline: others do not have that."""
    name = lineage.manifest.name
    under = lineage.trainings[0][1] if lineage.trainings else None
    if under in lineage.manifest.inputs:
        raise ModelError(
            f"'{name}' is an adapter on top of what stage '{under}' trained, which others do not "
            "have; push it merged: a merge_adapter stage, or llm-distill push with --merge"
        )
