"""The lanes: outputs do not cross each other's."""

from __future__ import annotations

import random
from xml.etree import ElementTree

import pytest

from llm_distill.report.picture import LINE, lay_out, picture


def test_a_chain_is_one_lane_and_a_late_reader_keeps_its_own() -> None:
    nodes = lay_out([("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ("a", "c"))])
    assert [node.lane for node in nodes] == [0, 1, 1, 0]
    assert nodes[3].inputs == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_an_output_has_its_lane_to_itself_until_its_last_reader(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"s{i}" for i in range(30)]
    stages = [(n, draw.sample(names[:i], min(i, draw.randint(0, 3)))) for i, n in enumerate(names)]
    nodes = lay_out(stages)
    for line, node in enumerate(nodes):
        last = max((i for i, (_, reads) in enumerate(stages) if names[line] in reads), default=line)
        between = [nodes[other].lane for other in range(line + 1, last)]
        assert node.lane not in between
        assert [names[i] for i in node.inputs] == stages[line][1]


def test_the_picture_has_a_mark_for_each_stage_and_a_path_for_each_input() -> None:
    stages = [
        ("a", (), "done"),
        ("b", ("a", "models_of_nobody"), "failed"),
        ("c", ("c",), "waiting"),
    ]
    svg = ElementTree.fromstring(picture(stages))
    marks = svg.findall("circle")
    states = [str(mark.get("class")).split()[1] for mark in marks]
    assert states == ["is-done", "is-failed", "is-waiting"]
    assert [float(mark.get("cy", 0)) for mark in marks] == [LINE * (i + 0.5) for i in range(3)]
    assert len(svg.findall("path")) == 1


def test_no_stages_give_a_picture_too() -> None:
    assert ElementTree.fromstring(picture([])).get("height") == "0"
