"""Whether a local directory is a model that can be loaded safely. Reads no weights."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from llm_distill.errors import ModelError, nearest
from llm_distill.paths import find_resource

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "tokenizer_config.json",
)


def why_not_a_model(wanted: str) -> str | None:
    """What is wrong with a directory or Hub name of a model; None: it may be loaded."""
    path = find_resource(wanted)
    if path is None:
        return why_not_a_hub_name(wanted)
    if not path.is_dir():
        return f"{wanted} is a file; a model is a directory with config.json, or a Hub name"
    try:
        check_model_dir(path)
    except ModelError as error:
        return str(error)
    return None


def why_not_a_hub_name(wanted: str) -> str | None:
    """Why a path that does not exist cannot be a Hub name either; None: it can."""
    if wanted[:1] not in (".", "~") and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", wanted):
        return None
    folder = find_resource(str(Path(wanted).parent))
    there = folder.iterdir() if folder is not None and folder.is_dir() else ()
    models = (str(Path(wanted).parent / p.name) for p in there if p.is_dir())
    hint = nearest(wanted, models).replace("allowed:", "there are:")
    return f"no directory {wanted}, and it is not a Hub name; {hint}"


def model_beside(wanted: str) -> str | None:
    """The model with the nearest name in the folder where one was looked for; None: none is near.

    wanted: what could be a Hub name as well: models/SmolLM2-135M, by models/SmolLM2-135M-Instruct.
    """
    place = Path(wanted)
    folder = find_resource(str(place.parent))
    try:
        there = (
            [] if folder is None else [each.parent.name for each in folder.glob("*/config.json")]
        )
    except OSError:  # a folder that may not be looked into
        there = []
    near = get_close_matches(place.name, sorted(there), n=1) or sorted(
        each for each in there if each.startswith(place.name)
    )
    return str(place.parent / near[0]) if near else None


def check_model_dir(path: Path) -> None:
    """Refuse a directory that cannot be loaded, or only by running code from it.

    Cheap enough for `validate`: of the weights only the headers are read.

    Raises:
        ModelError: with what was found and what to do.
    """
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ModelError(
            f"{path} is a PEFT adapter, not a whole model; merge it into its base with "
            "merge_and_unload() and save that"
        )
    _read_json(path / "config.json", path)
    check_has_tokenizer(path)
    for index in path.glob("*.safetensors.index.json"):
        shards = _read_json(index, path).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
            raise ModelError(f"{index} is damaged: it names no files; copy the model again")
        for shard in sorted(set(shards.values())):
            if not (path / shard).is_file():
                raise ModelError(f"{path} has no {shard}, which {index.name} names; copy it again")
    weights = sorted(path.glob("*.safetensors"))
    for file in weights:
        try:
            with safe_open(file, framework="numpy"):  # checks the header against the file's size
                pass
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{file} is damaged or not a safetensors file: {error}; copy the model again"
            ) from error
    if weights:
        return
    pickles = sorted(p.name for ending in ("*.bin", "*.pt", "*.pth") for p in path.glob(ending))
    if pickles:
        raise ModelError(
            f"{path} has pickle weights only ({', '.join(pickles)}), which can run code when "
            "loaded; save it again with model.save_pretrained(path, safe_serialization=True)"
        )
    raise ModelError(f"{path} has no weights: expected model.safetensors")


def check_has_tokenizer(path: Path) -> None:
    """Refuse a directory without any of the files that tokenizers are saved as.

    Raises:
        ModelError: with the names that were looked for.
    """
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{path} has no tokenizer: expected one of {', '.join(TOKENIZER_FILES)}")


def _read_json(file: Path, directory: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{directory} is not a model directory: it has no {file.name}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} is damaged: {error}; copy the model again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} is damaged: it does not hold a JSON object; copy the model again")
    return content


def readable_as_its_folder(folder: Path) -> None:
    """Let those read the files of a folder who may read it: safetensors writes for nobody else."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.iterdir():
        if file.is_file() and not file.is_symlink():
            file.chmod(mode)
