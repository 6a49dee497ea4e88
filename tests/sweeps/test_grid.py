"""What `--seeds` and `--set` say, and what they do not."""

from __future__ import annotations

import pytest

from llm_distill.errors import ConfigError
from llm_distill.sweeps.grid import described, read_axis, read_seeds, setting_key, settings_of


@pytest.mark.parametrize(
    ("text", "seeds"), [("1..5", (1, 2, 3, 4, 5)), ("1,2, 7", (1, 2, 7)), ("1..3,8", (1, 2, 3, 8))]
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "3..1", "1..5,5", "a", "-1", "1..", "1.5", "1..9999999"])
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        read_seeds(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-5,5e-5", (1e-5, 5e-5)),
        ("[0], [0, 3]", ([0], [0, 3])),
        ("x, 'b, c',\"d\"", ("x", "b, c", "d")),
        ("{n: 1},{n: 2}", ({"n": 1}, {"n": 2})),
        ("null,0", (None, 0)),
        ("1 # the old one", (1,)),
    ],
)
def test_a_comma_separates_values_unless_yaml_says_otherwise(
    text: str, values: tuple[object, ...]
) -> None:
    settings = list(settings_of([read_axis(f"stages.x.n={text}")]))
    assert tuple(setting.values["stages.x.n"] for setting in settings) == values


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("stages.x.n", "expected place=value,value"),
        ("stages..n=1", "expected place=value,value"),
        ("x=", "no value after"),
        ("x=1,1.0,1", "the value 1 is there twice"),
        ("x=[1", "a comma separates values"),
        ("x=1] , [2", "a comma separates values"),
        ("seed=1,2", "write --seeds 1..5"),
    ],
)
def test_values_that_are_none(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match="--set") as raised:
        read_axis(text)
    assert why in str(raised.value)


def test_all_combinations_and_their_names() -> None:
    axes = [read_axis("stages.x.rate=1e-5,5e-5"), read_axis("stages.y.rate=1,2")]
    settings = list(settings_of(axes))
    assert [s.assignments for s in settings][1] == ("stages.x.rate=1e-5", "stages.y.rate=2")
    assert len({s.key for s in settings}) == 4
    assert described(settings[0].values) == "x.rate 1e-05, y.rate 1"  # `rate` would be both
    assert setting_key({"a": 1e-5}) == setting_key({"a": 0.00001})
    with pytest.raises(ConfigError, match="it is there twice"):
        list(settings_of([axes[0], axes[0]]))
