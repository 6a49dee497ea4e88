"""Turn scores into pairs of a preferred and a rejected text, for DPO.

in:  {"id": "q1-recall-0", "parent_id": "q1", "question": "1 + 2?", "rationale": "…", "score": 0.55}
     and questions {"id": "q1", "prompt": "Write …", "question": "1 + 2?", "reference_answer": "3"}
out: {"id": "rationale-q1", "kind": "rationale", "task": "sums", "prompt": "Question: 1 + 2? …",
      "chosen": "…", "rejected": "…", "margin": 0.3}

in:  {"id": "s1-0", "parent_id": "s1", "prompt": "Write …", "completion": "…", "score": -0.02},
     {"id": "s1-1", "parent_id": "s1", "prompt": "Write …", "completion": "…", "score": 0.01}
     with kinds: [completion]
out: {"id": "completion-s1-1-s1-0", "kind": "completion", "task": "", "prompt": "Write …",
      "chosen": "…", "rejected": "…", "margin": 0.03}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.requests import offered_variables, render_prompt
from llm_distill.errors import DataError
from llm_distill.methods.answers import (
    AnswerKind,
    AnswerPlace,
    answers_equal,
    check_answer_in,
    extract_answer,
)
from llm_distill.methods.in_context_score import mean_by, question_scores
from llm_distill.methods.preference_pairs import (
    Margins,
    Pair,
    Pairing,
    ScoredText,
    candidate_pairs,
    question_pairs,
)
from llm_distill.prompts import Template, load_template
from llm_distill.rows.columns import Row, by_task, features, score_of
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage, later_setting

COLUMNS = ("id", "prompt", "chosen", "rejected", "kind", "margin", "task")
Kind = Literal["question", "rationale", "completion"]
Candidate = tuple[Row, float | None]
"""A row and its score."""


class BuildPreferences(Stage):
    """Builds preference pairs from scored candidates, task by task.

    Scores have any unit and sign; the higher is the better, and one that is null or not finite
    makes no pair. ARTE (arXiv 2406.19227) has pairs of these two kinds:
    `question`: drafts of the top quantile against drafts of the bottom quantile by the mean score
    of their rationales, with the prompt of the chosen draft.
    `rationale`: a question's best against its worst rationale, with the plain prompt of
    `rationale_template` instead of the prompt that asked for the text, so that the teacher learns
    to write in that way without being asked to.

    `completion`: candidates of any sort with the prompt that they answer, as `generate` gives them;
    of two with different prompts it is that of the chosen one.

    `pairing` says which candidates of a question are paired (rationales and completions). Pairs
    without a margin are dropped and counted.
    """

    former_settings: ClassVar[Mapping[str, Any]] = {"by_task": {}}
    always_seeded = True  # for ties, and which pairs are over the limits
    version: ClassVar[int] = 2

    stage: Literal["build_preferences"]
    rows: Rows = Field(description="scored candidates, as `score_in_context` gives them")
    questions: Rows | None = Field(
        None, description="the drafted questions with their `prompt`; needed for question pairs"
    )
    kinds: list[Kind] = Field(
        ["question", "rationale"], min_length=1, description="which pairs are built"
    )
    rationale_template: str | None = Field(
        None, description="the plain prompt of rationale pairs; needed for them"
    )
    question_template: str = Field(
        "arte/question_block.jinja",
        description="how a question is written for the pair, in the form that `parse` reads",
    )
    variables: dict[str, Any] = Field({}, description="constants for the templates")
    quantile: float = Field(
        0.25, gt=0, le=0.5, description="the share of questions at the top, and at the bottom"
    )
    question_pairs: int = Field(50, ge=1, description="most question pairs per task")
    rationale_pairs: int = Field(250, ge=1, description="most rationale pairs per task")
    completion_pairs: int = later_setting(250, "most completion pairs per task", ge=1)
    pairs_per_question: int | None = later_setting(
        None, "most rationale or completion pairs of one question", ge=1
    )
    pairing: Pairing = later_setting(
        "best_worst",
        "best_worst: a question's best candidate against its worst; all: each against each that is "
        "worse; across_zero: each with a score above 0 against each below (arXiv 2410.14208); "
        "best_right_best_wrong: of those with the right answer the best, against the best of the "
        "wrong ones, whatever the margin",
    )
    by: str | dict[str, float] = later_setting(
        "score",
        "the column with the score; or several, whose sum by weights it is, such as "
        "{is_correct: 0.5, score: 0.5}",
    )
    group_column: str = later_setting(
        "parent_id", "completions with the same value in it are candidates for the same question"
    )
    prompt_column: str = later_setting("prompt", "what a completion answers")
    completion_column: str = later_setting("completion", "the text of completion pairs")
    min_margin: float = Field(
        0.0,
        ge=0,
        description="the least difference, in the unit of the score; equal scores are never a pair",
    )
    margin_quantile: float = later_setting(
        0.0,
        "0.5 drops the half of a task's pairs with the smaller margins: a `min_margin` for scores "
        "of any unit",
        ge=0,
        lt=1,
    )
    drop_wrong: bool = Field(
        False, description="leave out candidates whose answer is not the reference answer"
    )
    answer_kind: AnswerKind = Field("exact", description="how answers are compared with references")
    answer_in: AnswerPlace = later_setting(
        "tag", "where an answer is read: in its tag, or in any form; see docs/answers.md"
    )

    @model_validator(mode="after")
    def _sources_are_there(self) -> Self:
        check_answer_in(self.answer_in, self.answer_kind)
        if "question" in self.kinds and self.questions is None:
            raise ValueError("question pairs need `questions`; or set kinds: [rationale]")
        if "rationale" in self.kinds and self.rationale_template is None:
            raise ValueError("rationale pairs need `rationale_template`; or set kinds: [question]")
        if "completion" in self.kinds and len(self.kinds) > 1:
            raise ValueError("completion goes alone: the other kinds pair questions and rationales")
        if not self._columns():
            raise ValueError("by: name at least one column")
        return self

    @model_validator(mode="after")
    def _pairing_fits(self) -> Self:
        if self.pairing == "best_right_best_wrong":
            if self.drop_wrong:
                raise ValueError("pairing: best_right_best_wrong needs what drop_wrong leaves out")
            if self.kinds != ["rationale"] and self.kinds != ["completion"]:
                raise ValueError(
                    "pairing: best_right_best_wrong goes with kinds: [rationale] or [completion]"
                )
            if self.min_margin or self.margin_quantile:
                raise ValueError(
                    "pairing: best_right_best_wrong pairs by the answer; leave out min_margin and "
                    "margin_quantile"
                )
        return self

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", *self._columns()}}
        if self._is_of_completions():
            needed[self.rows] |= {self.group_column, self.prompt_column, self.completion_column}
        else:
            needed[self.rows] |= {"parent_id", "question", "rationale"}
        if self._compares():
            needed[self.rows].add("reference_answer")
        if (drafts := self._drafts()) is not None:
            needed.setdefault(drafts, set()).update({"id", "prompt", "question"})
        return needed

    def read_as_text(self) -> dict[str, set[str]]:
        if not self._is_of_completions():
            return {}
        return {self.rows: {self.prompt_column, self.completion_column}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        sources = {}
        if (drafts := self._drafts()) is not None:
            sources[self.question_template] = drafts
        if self.rationale_template is not None and "rationale" in self.kinds:
            sources[self.rationale_template] = self.rows
        return {
            template: offered_variables(inputs[rows], self.variables)
            for template, rows in sources.items()
        }

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), features(COLUMNS))

    def _drafts(self) -> str | None:
        return self.questions if "question" in self.kinds else None

    def _is_of_completions(self) -> bool:
        return "completion" in self.kinds

    def _columns(self) -> Mapping[str, float]:
        """The columns of the score, with their weights."""
        return {self.by: 1.0} if isinstance(self.by, str) else self.by

    def _compares(self) -> bool:
        return self.drop_wrong or self.pairing == "best_right_best_wrong"

    def _text(self) -> str:
        """The column with the candidates' text."""
        return self.completion_column if self._is_of_completions() else "rationale"

    def _score(self, row: Row) -> float | None:
        """Its score; None if it has none, and so makes no pair."""
        total = 0.0
        for column, weight in self._columns().items():
            value = score_of(row["id"], row[column], column, self.rows)
            if value is None:
                return None
            total += weight * value
        return total

    def _rows(self, context: Context) -> Iterator[Row]:
        margins: list[tuple[str, float]] = []
        no_pair: Counter[str] = Counter()
        strategies: dict[str, Counter[str]] = {"chosen": Counter(), "rejected": Counter()}
        unscored = 0
        drafts = self._drafts_by_id(context)
        for task, rows in by_task(context.each_row(self.rows)).items():
            candidates = self._candidates(rows, context)
            unscored += sum(score is None for _, score in candidates)
            questions = self._question_rows(candidates, drafts, no_pair, context.seed)
            others = self._candidate_rows(candidates, no_pair, strategies, context.seed)
            for row in chain(questions, others):
                margins.append((row["kind"], row["margin"]))
                yield {**row, "task": task}
        for reason, count in no_pair.items():
            context.drop(reason, count)
        made = Counter(kind for kind, _ in margins)
        context.metrics.update(
            pairs={kind: made[kind] for kind in self.kinds},
            mean_margin=mean_by(margins),
            chosen_strategies=dict(strategies["chosen"]),
            rejected_strategies=dict(strategies["rejected"]),
            no_pair=dict(no_pair),
            unscored_candidates=unscored,
        )
        if not margins:
            reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(no_pair.items()))
            lower = f"Lower min_margin (now {self.min_margin}), or score"
            of = ", ".join(self._columns())
            raise DataError(
                f"no pair of '{self.rows}' has a margin in {of} ({reasons or 'no scored candidate'}"
                f"). {lower if self.min_margin else 'Score'} on more items (`n` of select_items), "
                "or make candidates that differ more (`n` and sampling.temperature of generate)"
            )

    def _drafts_by_id(self, context: Context) -> dict[str, Row]:
        name = self._drafts()
        drafts = {row["id"]: row for row in context.each_row(name)} if name is not None else {}
        for row in drafts.values():
            if not str(row["prompt"] or "").strip():
                raise DataError(f"row {row['id']} of '{self.questions}' has no prompt")
        return drafts

    def _candidates(self, rows: list[Row], context: Context) -> list[Candidate]:
        """The rows with their scores, without wrong ones if `drop_wrong`."""
        scored = [(row, self._score(row)) for row in rows]
        if not self.drop_wrong:
            return scored
        right = [(row, score) for row, score in scored if score is None or self._is_right(row)]
        context.drop("candidate with a wrong answer", len(rows) - len(right))
        return right

    def _is_right(self, row: Row) -> bool:
        text, ended = str(row[self._text()] or ""), row.get("finish_reason") == "stop"
        answer = extract_answer(text, self.answer_kind, ended, self.answer_in)
        return answers_equal(answer, row["reference_answer"] or "", self.answer_kind)

    def _question_rows(
        self,
        candidates: list[Candidate],
        drafts: Mapping[str, Row],
        no_pair: Counter[str],
        seed: int,
    ) -> Iterator[Row]:
        if "question" not in self.kinds:
            return
        template = load_template(self.question_template)
        questions = []
        scores = question_scores((row["parent_id"], score) for row, score in candidates)
        for identity, score in scores.items():
            if identity not in drafts:
                raise DataError(
                    f"'{self.questions}' has no row '{identity}', which is the parent_id of a "
                    f"candidate in '{self.rows}'; name the stage that the rationales were asked of"
                )
            questions.append(ScoredText(identity, score, self._render(template, drafts[identity])))
        found = question_pairs(
            questions,
            quantile=self.quantile,
            limit=self.question_pairs,
            margins=Margins(self.min_margin, self.margin_quantile),
            seed=seed,
        )
        no_pair.update({f"question pair: {reason}": n for reason, n in found.dropped.items()})
        for pair in found.pairs:
            identity = f"question-{pair.chosen.id}-{pair.rejected.id}"
            yield _row(identity, drafts[pair.chosen.id]["prompt"], "question", pair)

    def _candidate_rows(
        self,
        candidates: list[Candidate],
        no_pair: Counter[str],
        strategies: Mapping[str, Counter[str]],
        seed: int,
    ) -> Iterator[Row]:
        """Pairs of rationales, or of completions."""
        kind: Kind = "completion" if self._is_of_completions() else "rationale"
        if kind not in self.kinds:
            return
        group_column = self.group_column if kind == "completion" else "parent_id"
        rows = {row["id"]: row for row, _ in candidates}
        groups: dict[str, list[ScoredText]] = {}
        for row, score in candidates:
            if row[group_column] is None:
                raise DataError(f"row {row['id']} of '{self.rows}' has no {group_column}")
            members = groups.setdefault(str(row[group_column]), [])
            text = str(row[self._text()] or "")
            if score is not None and text.strip():
                is_right = self._is_right(row) if self._compares() else None
                members.append(ScoredText(row["id"], score, text, is_right))
        found = candidate_pairs(
            groups,
            pairing=self.pairing,
            limit=self.completion_pairs if kind == "completion" else self.rationale_pairs,
            per_group=self.pairs_per_question,
            margins=Margins(self.min_margin, self.margin_quantile),
            seed=seed,
        )
        no_pair.update({f"{kind} pair: {reason}": n for reason, n in found.dropped.items()})
        for pair in found.pairs:
            for side, member in (("chosen", pair.chosen), ("rejected", pair.rejected)):
                strategies[side][str(rows[member.id].get("strategy") or "all")] += 1
            chosen = rows[pair.chosen.id]
            one_each = kind == "rationale" and self.pairing == "best_worst"
            name = chosen["parent_id"] if one_each else f"{chosen['id']}-{pair.rejected.id}"
            yield _row(f"{kind}-{name}", self._prompt(kind, chosen), kind, pair)

    def _prompt(self, kind: Kind, chosen: Row) -> str:
        if kind == "rationale":
            return self._render(load_template(str(self.rationale_template)), chosen)
        prompt = str(chosen[self.prompt_column] or "")
        if not prompt.strip():
            raise DataError(f"row {chosen['id']} of '{self.rows}' has no {self.prompt_column}")
        return prompt

    def _render(self, template: Template, row: Row) -> str:
        try:
            return render_prompt(template, {**row, **self.variables})
        except DataError as error:
            raise DataError(f"row {row['id']}: {error}") from error


def _row(identity: str, prompt: str, kind: Kind, pair: Pair) -> Row:
    return {
        "id": identity,
        "prompt": prompt,
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "kind": kind,
        "margin": pair.margin,
    }
