"""The stage graph as lanes beside the list of stages, as tools for git draw a history.

A stage's output runs down a lane from its own line to the last stage that reads it. This stays
readable with fifty stages, and on a phone, where boxes and arrows do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LINE = 46  # pixels for each stage; the style sheet's --line
MOST_LANE, MOST_WIDTH = 14, 80
N_COLOURS = 6


@dataclass(frozen=True)
class Node:
    """A stage in the picture: its lane, from 0, and the lines of the stages that it reads."""

    lane: int
    inputs: tuple[int, ...]


def lay_out(stages: Sequence[tuple[str, Sequence[str]]]) -> list[Node]:
    """A lane for each of (name, names of earlier stages that it reads).

    An output has its lane to itself up to its last reader, which may take the lane over.
    """
    line = {name: index for index, (name, _) in enumerate(stages)}
    reads = [
        tuple(dict.fromkeys(line[other] for other in inputs if line.get(other, index) < index))
        for index, (_, inputs) in enumerate(stages)
    ]
    last_reader = {source: index for index, sources in enumerate(reads) for source in sources}
    owners: list[int | None] = []  # by lane: the line whose output runs in it
    nodes: list[Node] = []
    for index, sources in enumerate(reads):
        ending = [nodes[source].lane for source in sources if last_reader[source] == index]
        for lane in ending:
            owners[lane] = None
        free = [lane for lane, owner in enumerate(owners) if owner is None]
        lane = next(iter(ending or free), len(owners))
        if lane == len(owners):
            owners.append(None)
        owners[lane] = index if index in last_reader else None
        nodes.append(Node(lane, reads[index]))
    return nodes


def picture(stages: Sequence[tuple[str, Sequence[str], str]]) -> str:
    """The lanes as an `<svg>` element, for a list with lines of LINE pixels.

    Args:
        stages: (name, names of the stages that it reads, state), in order.
    """
    nodes = lay_out([(name, inputs) for name, inputs, _ in stages])
    n_lanes = max((node.lane for node in nodes), default=0) + 1
    step = min(MOST_LANE, MOST_WIDTH / n_lanes)
    width, height = round(n_lanes * step + 6), LINE * len(nodes)

    def place(line: int) -> tuple[float, float]:
        return round(nodes[line].lane * step + 8, 1), LINE * line + LINE / 2

    edges, marks = [], []
    for line, node in enumerate(nodes):
        x, y = place(line)
        for source in node.inputs:
            x0, y0 = place(source)
            turn = y - LINE * 0.6
            path = f"M{x0:g} {y0:g}V{turn:g}C{x0:g} {y - 6:g} {x:g} {turn + 4:g} {x:g} {y:g}"
            edges.append(f'<path class="lane-{nodes[source].lane % N_COLOURS}" d="{path}"/>')
        state = stages[line][2]
        lane = f"lane-{node.lane % N_COLOURS}"
        marks.append(f'<circle class="{lane} is-{state}" cx="{x:g}" cy="{y:g}" r="4.5"/>')
    return (
        f'<svg class="lanes" role="img" aria-label="How the stages read each other" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"{''.join(edges)}{''.join(marks)}</svg>"
    )
