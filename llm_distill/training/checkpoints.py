"""Which checkpoint a killed training goes on from."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import zipfile
from pathlib import Path

log = logging.getLogger("llm_distill")


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; newer ones that a kill cut short are removed."""
    found = sorted(
        (path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()),
        key=lambda path: int(path.name[11:]),
    )
    while found:
        newest = found.pop()
        if is_complete(newest):
            return newest
        log.warning("%s is not complete; going back to the checkpoint before it", newest.name)
        shutil.rmtree(newest)
    return None


def is_complete(path: Path) -> bool:
    """Whether weights, optimizer, schedule, random numbers and state are there and can be read.

    Tensors are mapped, not read: of a large checkpoint only the tables of contents are. Both file
    formats notice in these that a file is cut short.
    """
    import torch
    from safetensors import SafetensorError

    try:
        state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        if state["global_step"] != int(path.name.rpartition("-")[2]):
            return False
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(path / name, map_location="cpu", weights_only=True, mmap=True)
        # What torch saves is a zip archive, with its table of contents at the very end.
        random = [zipfile.is_zipfile(each) for each in path.glob("rng_state*.pth")]
        return bool(random) and all(random) and _weights(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError):
        return False
    except (pickle.UnpicklingError, SafetensorError):
        return False


def _weights(path: Path) -> bool:
    """Whether there are weights, all that their index names.

    Raises:
        SafetensorError: one is not as long as its header says.
    """
    from safetensors import safe_open

    needed = {file.name for file in path.glob("*.safetensors")}
    for index in path.glob("*.safetensors.index.json"):
        needed.update(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    for name in needed:
        with safe_open(path / name, framework="pt"):
            pass
    return bool(needed)
