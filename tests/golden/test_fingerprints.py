"""A finished stage is found again by its fingerprint: a change of one loses users' work.

`pipelines/` holds the shipped pipelines as they were when the package was rearranged. Where a
change is meant, raise the stage's `version`, say so in the CHANGELOG, and write the file anew:
python -m tests.golden.test_fingerprints
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.fingerprints import identities

HERE = Path(__file__).parent
GOLDEN = HERE / "fingerprints.json"
FILES = sorted(path.name for path in (HERE / "pipelines").glob("*.yaml"))


def _found(file: str) -> dict[str, dict[str, str]]:
    return identities(str(HERE / "pipelines" / file))


@pytest.mark.parametrize("file", FILES)
def test_work_that_was_done_is_found_again(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE.parents[1])
    assert _found(file) == json.loads(GOLDEN.read_text())[file]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({file: _found(file) for file in FILES}, indent=1) + "\n")
