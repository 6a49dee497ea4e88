"""Damage to a workspace, and a disk that is full; then the same pipeline runs again."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from bad_server import Mischief
from chaos_run import CONCURRENCY, Report, Run, complaint, differs

KINDS = {
    "weights": "artifacts/*/*.safetensors",
    "Arrow file": "artifacts/*/*.arrow",
    "dataset's own files": "artifacts/*/[ds]*.json",
    "tokenizer and config": "artifacts/*/[ct]*.json",
    "manifest": "artifacts/*/manifest.json",
    "run's record": "runs/*/*/run.json",
    "run's settings": "runs/*/*/pipeline.yaml",
    "completion store": "completions/store.sqlite*",
    "lock file": "artifacts/.locks/*.lock",
    "checkpoint's weights": "artifacts/.work/*/checkpoints/*/model.safetensors",
    "optimizer's state": "artifacts/.work/*/checkpoints/*/optimizer.pt",
    "scheduler's state": "artifacts/.work/*/checkpoints/*/scheduler.pt",
    "random numbers' state": "artifacts/.work/*/checkpoints/*/rng_state.pth",
    "trainer's state": "artifacts/.work/*/checkpoints/*/trainer_state.json",
    "training's arguments": "artifacts/.work/*/checkpoints/*/training_args.bin",
    "checkpoint's digests": "artifacts/.work/*/checkpoints/*/digests.json",
}
"""Files by kind; those of a checkpoint are there while a training is unfinished."""


TOLD = ("is full", "ulimit -f", "choose another with --workspace", "has it room")
"""What a message says of a place where nothing more can be written."""


def damages(
    folder: Path,
    made: list[Run],
    n: int,
    hows: tuple[str, ...],
    wanted: dict[str, str],
    mischief: Mischief,
    drawn: random.Random,
    report: Report,
) -> None:
    """Of every kind `n` times a file is damaged; then it runs again.

    made: workspaces to copy: a finished one, and one that was killed in its training.
    """
    for kind, pattern in KINDS.items():
        for number in range(n):
            origin = next((each for each in made if any(each.workspace.glob(pattern))), None)
            if origin is None:
                report.note(f"{kind}: no such file", "the pattern fits nothing")
                break
            how = drawn.choice(hows)
            name = f"{how} {kind} {number}".replace("'", "").replace(" ", "-")
            run = origin.copied(folder / name)
            target = drawn.choice(sorted(run.workspace.glob(pattern)))
            _damage(target, how, drawn)
            mischief.answered.clear()
            code, said = run.finish()
            problem = complaint(code, said) or ("" if code else differs(run, wanted))
            again = mischief.answered.total()
            if not problem and again and kind != "completion store":
                problem = f"{again} answers that were stored were asked for again"
            if problem:
                problem = f"{target.relative_to(run.workspace)}: {problem}"
            ended = ", told what to do" if code and not problem else ""
            report.note(f"{how}: {kind}{ended}", problem, run)
            shutil.rmtree(run.folder)


def _damage(target: Path, how: str, drawn: random.Random) -> None:
    data = bytearray(target.read_bytes())
    if how == "deleted":
        target.unlink()
    elif not data:
        target.write_bytes(drawn.randbytes(8))  # a lock file is empty
    elif how == "cut":
        target.write_bytes(data[: drawn.randrange(len(data))])
    else:
        data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
        target.write_bytes(data)


def full_disks(
    folder: Path,
    url: str,
    n: int,
    wanted: dict[str, str],
    mischief: Mischief,
    drawn: random.Random,
    report: Report,
) -> None:
    """Nothing can be written beyond a size: it says so. With room again it goes on to the end.

    The limit is one of a file's size, which needs no rights: small files can be written, as is
    often so on a disk that is full. That no byte is left is tested in tests/runtime/test_disk.py.
    """
    for number in range(n):
        run = Run(folder / f"full-{number}", url)
        largest = int(2 ** drawn.uniform(8, 21))
        mischief.answered.clear()
        code, said = run.finish(largest)
        problem = complaint(code, said)
        if not problem and code:
            told = any(words in said for words in TOLD)
            problem = "" if told else f"unclear: {said[-300:]}"
        if not problem:
            code, said = run.finish()
            problem = f"exit code {code}: {said[-300:]}" if code else differs(run, wanted)
        twice = mischief.counts()["answered_twice"]
        if not problem and twice > CONCURRENCY:
            problem = f"{twice} answers were asked for twice"
        report.note("full disks", f"{largest:,} bytes: {problem}" if problem else "", run)
        shutil.rmtree(run.folder)
