from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_distill.rows import unique_ids
from llm_distill.rows.unique_ids import UniqueIds


@settings(deadline=None)  # the first call imports numpy
@given(st.lists(st.text(max_size=2), max_size=60))
def test_it_is_a_set_that_knows_the_order(names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unique_ids, "RECENT", 4)
        seen = UniqueIds()
        known: dict[str, int] = {}
        for name in names:
            assert seen.add(name) == known.get(name)
            known.setdefault(name, len(known))
            assert len(seen) == len(known)


def test_a_million_take_little() -> None:
    seen = UniqueIds()
    for index in range(200_000):
        assert seen.add(f"row-{index}") is None
    assert seen._digests.nbytes + seen._places.nbytes == 12 * (len(seen) - len(seen._recent))
    assert len(seen._recent) < unique_ids.RECENT
    assert (seen.add("row-7"), seen.add("row-199999")) == (7, 199_999)
