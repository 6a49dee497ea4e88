"""Watch what a student writes to learn from, round by round, and stop before a bad round.

in:  {"id": "q1-0", "prompt": "2 + 2?", "completion": "It is 4.", "finish_reason": "stop"}
out: {"id": "round 2, math", "round": 2, "teacher": "math", "n_rows": 400, "mean_tokens": 212.0,
      "truncated": 0.03, "repetition": 0.01, "reverse_kl": 0.11, "ess": 0.8, …}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.distillation.rows import RowText
from llm_distill.errors import DataError
from llm_distill.evaluation.result_rows import PlaceRow
from llm_distill.evaluation.results import FigureTable, Results
from llm_distill.evaluation.rollout_figures import listed, rollout_tables
from llm_distill.methods.rollouts import Limits, Rollout, Watched, repeated, trouble, watched
from llm_distill.rows.columns import Row, round_after
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Stage, later_setting

if TYPE_CHECKING:
    from llm_distill.distillation.rollout_scores import RolloutScores

SCORED = {"teacher_logps", "scored_by", "scored_text"}
WRITTEN = {"completion_ids", "rollout_logps"}
REMEDIES = {
    **dict.fromkeys(SCORED, "score_likelihood gives it"),
    **dict.fromkeys(
        WRITTEN,
        "generate gives it with keep_tokens; or name in student_scores a score_likelihood of the "
        "student over the same rows",
    ),
    "finish_reason": "generate gives it",
}
MOST_PLACES = 10
GENTLER = "lower learning_rate, train fewer steps a round, or mix in texts of the teacher"
WHAT_TO_DO = {
    "repetition": f"Leave texts that loop out; {GENTLER}. A student that loops from the start is "
    "trained on the teacher's own texts first (train_sft)",
    "truncated": f"Leave cut texts open or out (truncated); {GENTLER}; or raise max_tokens where "
    "good texts are longer",
    "empty": f"Look at the prompt, and at what ends a text (stop); {GENTLER}. A student that says "
    "nothing from the start is trained on the teacher's own texts first (train_sft)",
    "growth": f"Where texts are not meant to grow, {GENTLER}",
}
"""By the limit that is passed."""


@dataclass(frozen=True)
class Judged:
    """A round's group, with its figures and those of the first round; None: this is the first."""

    name: str
    now: Watched
    first: Watched | None
    rollouts: Sequence[Rollout]

    def worst_rows(self) -> str:
        """The ids of the three that repeat themselves most, of equals the longest."""
        order = sorted(self.rollouts, key=lambda each: (-each.repeated, -each.n_characters))
        return ", ".join(f"row {each.id}" for each in order[:3])


class RolloutReport(RowText, Stage):
    """Figures of a round's rollouts by group, and a stop where they go wrong.

    Of what `generate` wrote: length, share cut by max_tokens, share empty, repetition. With
    `teacher` and `student`, whose tokenizers are read, also what their scores say: the reverse KL
    of the student from the teacher with an interval, the effective sample share, how much of what
    both find likely is the same (where `score_likelihood` kept `top_k`), and in the report the
    places where they differ most: look at these before a training.

    In a `repeat`, `before: watched@previous` passes on the rounds before, and the guards compare
    with the first of them. A guard stops the run; null turns it off.
    """

    stage: Literal["rollout_report"]
    rows: Rows = Field(description="what the student wrote, all of it")
    by: tuple[str, ...] = Field(
        (),
        description="columns, such as teacher: figures for each of their values; a column `round` "
        "holds the number of the round, where rows of several are together",
    )
    before: Rows | None = Field(
        None,
        description="the report of the round before: its rows are passed on, and this is the next "
        "round",
    )
    teacher: Model | tuple[Model, ...] | None = Field(
        None,
        description="the model that scored the rows; of several, each row is compared with its own",
    )
    student: Model | None = Field(None, description="the model that wrote them")
    teacher_scores: Rows | None = Field(
        None, description="a score_likelihood of the teacher over the rows; null: `rows` are scored"
    )
    student_scores: Rows | None = Field(
        None,
        description="a score_likelihood of the student over the rows; null: the columns "
        "`completion_ids` and `rollout_logps` of `rows`, which it wrote with",
    )
    teacher_prompt_template: str | None = Field(
        None, description="the prompt that the teacher scored under; null: the student's"
    )
    max_truncated: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="stop where a larger share of texts is cut, at least twice that of the first "
        "round",
    )
    max_repetition: float | None = Field(
        0.4, ge=0, le=1, description="stop where texts repeat themselves more, as a mean share"
    )
    max_growth: float | None = Field(
        2.0, gt=1, description="stop where texts are this many times as long as in the first round"
    )
    max_empty: float | None = later_setting(
        0.5, "stop where a larger share of texts holds nothing", ge=0, le=1
    )
    min_shared: float | None = Field(
        0.7,
        ge=0,
        le=1,
        description="warn where less of what teacher and student find likely lies on tokens that "
        "both find likely",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (not self.teacher) != (self.student is None):
            raise ValueError("teacher and student come together: their scores are compared")
        scores = [n for n in ("teacher_scores", "student_scores") if getattr(self, n) is not None]
        if scores and not self.teacher:
            raise ValueError(f"{', '.join(scores)} needs teacher and student: how they read a text")
        if self.text_column is not None:
            raise ValueError("text_column: rollouts are what a model wrote, in completion_column")
        if self.teacher_prompt_template and self.messages_column:
            raise ValueError("teacher_prompt_template needs rows with a prompt and a completion")
        taken = {"id", *(each.name for each in fields(Watched))}.intersection(self.by)
        if taken or len({*self.by}) < len(self.by):
            raise ValueError(f"by: each column once, and none of {', '.join(sorted(taken))}")
        if "round" in self.by and self.before is not None:
            raise ValueError("before counts the rounds, so `round` cannot be among `by`")
        return self

    def loads(self, place: str) -> bool:
        return False

    def reads_tokenizer(self, place: str) -> bool:
        return True

    def asks(self, place: str) -> None:
        return None

    def required_columns(self) -> dict[str, set[str]]:
        needed: dict[str, set[str]] = defaultdict(set)
        needed[self.rows] |= {"id", self.completion_column, "finish_reason", *self.by}
        if self.before is not None:
            needed[self.before] |= {*self._columns()}
        if self.teacher:
            needed[self.rows] |= self.text_columns()
            needed[self.teacher_scores or self.rows] |= {"id"} | SCORED
            if self.student_scores is None:
                needed[self.rows] |= WRITTEN
            else:
                needed[self.student_scores] |= {"id"} | SCORED
        return dict(needed)

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: self.text_columns() - {self.messages_column or ""}}

    def remedy(self, column: str) -> str | None:
        return REMEDIES.get(column)

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        columns = inputs[self.rows]
        if not self.teacher:
            return {}
        return self.offered(columns) | self._as_the_teacher_reads().offered(columns)

    def _as_the_teacher_reads(self) -> RowText:
        if self.teacher_prompt_template is None:
            return self
        return self.model_copy(update={"prompt_template": self.teacher_prompt_template})

    def _columns(self) -> list[str]:
        named = [name for name in self.by if name != "round"]
        return ["id", "round", *named, *(each.name for each in fields(Watched))]

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(self._columns())

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        before = rows[self.before] if self.before is not None else 0
        return None if self.by or before is None else before + 1

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        types = {"id": "string", "round": "int64", "n_rows": "int64", "n_compared": "int64"}
        types |= dict.fromkeys(self.by, "string") | ({"round": "int64"} if self.by else {})
        columns = {name: Value(types.get(name, "float64")) for name in self._columns()}
        return RowsOutput(self._rows(context), Features(columns))

    def _rows(self, context: Context) -> Iterator[Row]:
        earlier = list(context.each_row(self.before)) if self.before is not None else []
        number = round_after(earlier)
        groups, places = self._measured(context, number)
        if not groups:
            raise DataError(f"no row of '{self.rows}' holds a text: a model failed on each of them")
        named = [name for name in self.by if name != "round"]
        ordered = dict(sorted(groups.items()))
        new = [
            {
                "id": ", ".join([f"round {round_}", *values]),
                "round": round_,
                **dict(zip(named, values, strict=True)),
                **asdict(watched(rollouts)),
            }
            for (round_, *values), rollouts in ordered.items()
        ]
        rows = [*earlier, *new]
        tables = rollout_tables(rows, named)
        context.metrics.update(Results(own=tables, places=tuple(places)).to_metrics())
        for row, rollouts in zip(new, ordered.values(), strict=True):
            same = [r for r in rows if all(r[name] == row[name] for name in named)]
            first = min(same, key=lambda each: each["round"])
            was = Watched.read(first) if first["round"] < row["round"] else None
            self._judge(context, Judged(row["id"], Watched.read(row), was, rollouts), tables)
        yield from rows

    def _measured(
        self, context: Context, number: int
    ) -> tuple[dict[tuple[Any, ...], list[Rollout]], list[PlaceRow]]:
        """Rollouts by round and group, and the places where the two sides differ most."""
        groups: dict[tuple[Any, ...], list[Rollout]] = defaultdict(list)
        scores = self._scores(context)
        worst: list[PlaceRow] = []
        for row in self.each_row(context):
            if row.get("error") is not None:
                context.drop("the model failed")
                continue
            text = self._text(row)
            named = (str(row[name]) for name in self.by if name != "round")
            key = (self._round(row) if "round" in self.by else number, *named)
            said = scores.of(row) if scores is not None else None
            groups[key].append(
                Rollout(
                    id=row["id"],
                    prompt=str(row.get("parent_id") or row["id"]),
                    n_characters=len(text),
                    is_cut=row["finish_reason"] == "length",
                    is_empty=not text.strip(),
                    repeated=repeated(text),
                    n_tokens=self._n_tokens(row, text, scores),
                )
            )
            if said is None:
                continue
            groups[key][-1] = replace(
                groups[key][-1], gap=said.gap, shared=said.shared, log_ratios=said.log_ratios
            )
            worst.extend(said.places)
            worst = sorted(worst, key=lambda place: -abs(place.gap))[:MOST_PLACES]
        if scores is not None:
            scores.note(context.warn)
        return groups, worst

    def _scores(self, context: Context) -> RolloutScores | None:
        from llm_distill.distillation.rollout_scores import Reader, RolloutScores, Scores

        if not self.teacher or self.student is None:
            return None
        names = (self.teacher,) if isinstance(self.teacher, str) else self.teacher
        of_teacher, of_student = self.teacher_scores or self.rows, self.student_scores
        return RolloutScores(
            self.rows,
            [Reader(context.model(name), self._as_the_teacher_reads()) for name in names],
            Reader(context.model(self.student), self),
            Scores.of(of_teacher, context.rows(of_teacher)),
            Scores.of(of_student, context.rows(of_student)) if of_student is not None else None,
        )

    def _n_tokens(self, row: Row, text: str, scores: RolloutScores | None) -> int | None:
        ids = row.get("completion_ids")
        if ids is not None:
            return len(ids)
        return scores.n_tokens(text) if scores is not None else None

    def _text(self, row: Row) -> str:
        text = row[self.completion_column]
        if text is not None and not isinstance(text, str):
            raise DataError(
                f"row {row['id']} of '{self.rows}': {self.completion_column} holds "
                f"{type(text).__name__}, not text; name what the model wrote (completion_column)"
            )
        return text or ""

    def _round(self, row: Row) -> int:
        try:
            return int(row["round"])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"row {row['id']} of '{self.rows}': round is {row['round']!r}, not a whole number"
            ) from error

    def _judge(self, context: Context, judged: Judged, tables: Sequence[FigureTable]) -> None:
        """Raises:
        DataError: the round must not be trained on.
        """
        limits = Limits(self.max_truncated, self.max_repetition, self.max_growth, self.max_empty)
        found = trouble(judged.now, judged.first, limits)
        if found is not None:  # lists all figures, since nothing of the stage is kept
            limit = f"max_{found.limit}"
            raise DataError(
                f"{judged.name}: {found.why} ({limit}: {getattr(self, limit):g}). "
                f"{WHAT_TO_DO[found.limit]}. Look at {judged.worst_rows()} of '{self.rows}'. To go "
                f"on all the same raise {limit}, or set it to null; the figures are\n"
                f"{listed(tables)}"
            )
        cut, mass = judged.now.truncated, judged.now.shared_mass
        if self.max_truncated is not None and cut > self.max_truncated:
            instead = ", or leave cut texts open or out (truncated)"
            context.warn(
                f"{judged.name}: {cut:.1%} of the texts are cut by max_tokens; raise it"
                f"{instead if self.truncated == 'close' else ''}"
            )
        if self.min_shared is not None and mass is not None and mass < self.min_shared:
            context.warn(
                f"{judged.name}: of what teacher and student find likely, as little as {mass:.0%} "
                "lies on tokens that both find likely: from so far the teacher's scores teach "
                "little. Train on the teacher's own texts first (train_sft), or take a teacher "
                "nearer to the student"
            )
