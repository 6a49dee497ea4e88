"""`repeat` in a pipeline file: a block of stages becomes one stage a round, by name and in order.

rounds:                                      answers@1: {…, model: student}
  repeat:                                    trained@1: {…, rows: answers@1}
    times: 2                                 answers@2: {…, model: trained@1}
    start: {trained: student}                trained@2: {…, rows: answers@2}
    stages:
      answers: {…, model: trained@previous}
      trained: {…, rows: answers}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_distill.pipeline.places import at_place, with_at_place
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import Problems, parts, spell
from llm_distill.pipeline.registry import find_stage, read_stage
from llm_distill.pipeline.rounds import Block, End, Round, Rounds
from llm_distill.pipeline.until import Until
from llm_distill.pipeline.wording import classes_in
from llm_distill.stage import references

MOST_ROUNDS = 100
"""More is taken for a typing mistake."""
WRONG = Until.model_construct(watch="")
"""In place of an `until` with mistakes, so that `@best` is not one as well."""
NOTHING = object()
"""In place of a reference that `start: {stage: null}` leaves out."""


class Repeat(BaseModel):
    """What is under `repeat:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    times: int = Field(
        ge=1, le=MOST_ROUNDS, description="how many rounds; with `until`, at the most"
    )
    until: Until | None = Field(None, description="what ends the rounds before that")
    start: dict[str, str | None] = Field(
        {},
        description="what `stage@previous` is in the first round; null: nothing, the setting is "
        "left out there",
    )
    stages: dict[str, Any] = Field(description="the stages of a round, in order")


class RepeatEntry(BaseModel):
    """An entry under `stages:` that is a block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repeat: Repeat


def is_block(raw: Any) -> bool:
    """Whether an entry under `stages:` is a block; a stage may have a setting `repeat`."""
    return isinstance(raw, dict) and "repeat" in raw and "stage" not in raw


def unroll(raw_stages: Any, problems: Problems) -> tuple[Any, Rounds]:
    """The stages with each block's rounds in its place, and what the rounds are.

    References that have a meaning are written out; the graph's check reports the others.
    `problems` gets the places in the file of the rounds' stages.
    """
    rounds = Rounds()
    if not isinstance(raw_stages, dict):
        return raw_stages, rounds
    blocks: dict[Any, Block] = {}
    outside = [name for name, raw in raw_stages.items() if not is_block(raw)]
    for name, raw in raw_stages.items():
        if is_block(raw):
            blocks[name] = _read_block(name, raw, [*outside, *rounds.blocks], problems)
            rounds.blocks.update(dict.fromkeys(blocks[name].stages, blocks[name]))
    clashing = {n for n in outside if str(n).partition("@")[0] in rounds.blocks}
    for name in clashing:
        problems.add(("stages", name), "a stage's name cannot have '@' and a round")
    flat: dict[Any, Any] = {}
    for name, raw in raw_stages.items():
        if name in blocks:
            flat.update(_unrolled(blocks[name], raw["repeat"], rounds, problems))
        elif name not in clashing:
            found = _references(raw) if "@" in str(raw) else []  # else it names no round
            flat[name] = _written_out(name, raw, found, None, rounds, problems)
    return flat, rounds


def _read_block(name: Any, raw: Any, taken: Iterable[Any], problems: Problems) -> Block:
    """The block, with the valid part of it if something is wrong.

    taken: the names of stages elsewhere in the file.
    """
    place: Place = ("stages", name)
    if not str(name).replace("_", "").isalnum():
        problems.add(place, "a repeat's name has letters, digits and underscores only")
    times: int | None = None
    until: Until | None = None
    try:
        valid = RepeatEntry.model_validate(raw).repeat
        times, until = valid.times, valid.until
    except ValidationError as error:
        problems.add_validation(place, error, RepeatEntry, raw)
        until = WRONG if isinstance(raw["repeat"], dict) and "until" in raw["repeat"] else None
    inner = raw["repeat"] if isinstance(raw["repeat"], dict) else {}
    stages = inner["stages"] if isinstance(inner.get("stages"), dict) else {}
    start = inner["start"] if isinstance(inner.get("start"), dict) else {}
    if stages == inner.get("stages") == {}:
        problems.add((*place, "repeat", "stages"), "a repeat needs at least one stage")
    known = []
    for stage, settings in stages.items():
        at = (*place, "repeat", "stages", stage)
        if stage in taken:
            problems.add(at, f"there is another stage '{stage}' in the file; names must differ")
        elif isinstance(stage, str):
            known.append(stage)
            if is_block(settings):
                problems.add(at, "a repeat cannot be inside a repeat")
    texts = {k: v for k, v in start.items() if isinstance(k, str) and isinstance(v, str | None)}
    return Block(str(name), tuple(known), times, texts, until)


def _unrolled(block: Block, raw: Any, rounds: Rounds, problems: Problems) -> dict[str, Any]:
    raw_stages = {stage: raw["stages"][stage] for stage in block.stages}
    found = {stage: _references(settings) for stage, settings in raw_stages.items()}
    flat = {}
    for number in block.numbers:
        for stage in block.stages:
            name, by = f"{stage}@{number}", Round(block, stage, number)
            rounds.of[name] = by
            problems.rounds[("stages", name)] = ("stages", block.name, "repeat", "stages", stage)
            raw_stage = raw_stages[stage]
            flat[name] = _written_out(name, raw_stage, found[stage], by, rounds, problems)
    for stage, target in block.start.items():
        if target is not None and rounds.may_not_be_there(target, None):
            place = ("stages", block.name, "repeat", "start", stage)
            problems.add(place, rounds.explain(target, "") or "")
    return flat


def _references(raw: Any) -> list[tuple[str, str]]:
    """(place such as `models[1]`, what is written there) of a stage's references."""
    kind = find_stage(str(raw.get("stage"))) if isinstance(raw, dict) else None
    if kind is None:
        return []
    stage, _ = read_stage(kind, raw)
    return [(place, name) for place, name, _ in references(stage)]


def _written_out(
    name: str,
    raw: Any,
    found: Iterable[tuple[str, str]],
    by: Round | None,
    rounds: Rounds,
    problems: Problems,
) -> Any:
    """The stage's settings with unrolled names."""
    ends: dict[Place, End] = {}
    for place, reference in sorted(found, key=lambda each: _turn(rounds.end(each[1], by))):
        stage, _, which = reference.partition("@")
        value: Any = rounds.resolve(reference, by)
        if by is not None and which == "previous" and by.number == 1 and stage in by.block.start:
            rounds.starts[name, place] = stage
            if by.block.start[stage] is None and _can_be_left_out(raw, parts(place)):
                value = NOTHING
        end = rounds.end(reference, by)
        if end is not None:
            value = _stand_in(end, value, _beside(raw, place))
        if end is not None and value is not NOTHING:
            ends[parts(place)] = end
        elif rounds.may_not_be_there(reference, by):
            problems.add(("stages", name, *parts(place)), rounds.explain(reference, name) or "")
        raw = with_at_place(raw, parts(place), value)
    rounds.ends.update({(name, spell(_once_left_out(raw, p))): end for p, end in ends.items()})
    return _without_nothing(raw)


def _turn(end: End | None) -> int:
    """The best comes last, as any round that is not named yet can stand for it."""
    return ("last", "best").index(end.which) + 1 if end is not None else 0


def _stand_in(end: End, value: Any, beside: Iterable[Any]) -> Any:
    """What stands for the best or the last: a round that the list does not name already.

    NOTHING where the list names them all.
    """
    if value not in beside:
        return value
    others = (f"{end.stage}@{number}" for number in end.block.numbers)
    free = (other for other in others if other not in beside)
    return next(free, NOTHING) if end.which == "best" else NOTHING


def _beside(raw: Any, place: str) -> Iterable[Any]:
    """The other items of the list that the place is in; nothing elsewhere."""
    inner = parts(place)
    return at_place(raw, inner[:-1]) if isinstance(inner[-1], int) else ()


def _once_left_out(raw: Any, place: Place) -> Place:
    """The place without the items of its list that are NOTHING."""
    if not isinstance(place[-1], int):
        return place
    before = at_place(raw, place[:-1])[: place[-1]]
    return (*place[:-1], place[-1] - sum(item is NOTHING for item in before))


def _can_be_left_out(raw: Any, place: Place) -> bool:
    """Else the reference stays as it is written, and the graph's check says what to do."""
    kind = find_stage(str(raw.get("stage")))
    field = None if kind is None else kind.model_fields.get(str(place[0]))
    if field is None:
        return False
    if len(place) == 1:
        return not field.is_required()
    if isinstance(place[-1], int):  # an item of a list, which others are left in
        items = at_place(raw, place[:-1])
        return sum(item is not NOTHING for item in items) > 1
    inner = (settings.model_fields.get(str(place[-1])) for settings in classes_in(field.annotation))
    return any(setting is not None and not setting.is_required() for setting in inner)


def _without_nothing(raw: Any) -> Any:
    """Without the settings and items of lists that are NOTHING: defaults take their place."""
    if isinstance(raw, dict):
        return {name: _without_nothing(v) for name, v in raw.items() if v is not NOTHING}
    if isinstance(raw, list):
        return [_without_nothing(v) for v in raw if v is not NOTHING]
    return raw
