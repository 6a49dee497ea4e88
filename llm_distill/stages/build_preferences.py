"""Turn scores into pairs of a preferred and a rejected text, for DPO.

in:  {"id": "q1-recall-0", "parent_id": "q1", "question": "1 + 2?", "rationale": "…", "score": 0.55}
     and questions {"id": "q1", "prompt": "Write …", "question": "1 + 2?", "reference_answer": "3"}
out: {"id": "rationale-q1", "kind": "rationale", "task": "sums", "prompt": "Question: 1 + 2? …",
      "chosen": "…", "rejected": "…", "margin": 0.3}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.requests import offered_variables, render_prompt
from llm_distill.errors import DataError
from llm_distill.methods.answers import AnswerKind, answers_equal, extract_answer
from llm_distill.methods.in_context_score import mean_by, question_scores
from llm_distill.methods.preference_pairs import (
    Pair,
    ScoredText,
    question_pairs,
    rationale_pairs,
)
from llm_distill.prompts import Template, load_template
from llm_distill.rows.columns import Row, by_task, features
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

COLUMNS = ("id", "prompt", "chosen", "rejected", "kind", "margin", "task")
Kind = Literal["question", "rationale"]


class BuildPreferences(Stage):
    """Builds preference pairs from scored candidates, task by task (ARTE, arXiv 2406.19227).

    `question`: drafts of the top quantile against drafts of the bottom quantile by the mean score
    of their rationales, with the prompt of the chosen draft.
    `rationale`: a question's best against its worst rationale, with the plain prompt of
    `rationale_template` instead of the prompt that asked for the text, so that the teacher learns
    to write in that way without being asked to.
    Pairs without a margin are dropped and counted.
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
    min_margin: float = Field(
        0.0, ge=0, description="the least difference in score; equal scores are never a pair"
    )
    drop_wrong: bool = Field(
        False, description="leave out rationales whose answer is not the reference answer"
    )
    answer_kind: AnswerKind = Field("exact", description="how `drop_wrong` compares answers")

    @model_validator(mode="after")
    def _sources_are_there(self) -> Self:
        if "question" in self.kinds and self.questions is None:
            raise ValueError("question pairs need `questions`; or set kinds: [rationale]")
        if "rationale" in self.kinds and self.rationale_template is None:
            raise ValueError("rationale pairs need `rationale_template`; or set kinds: [question]")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", "parent_id", "question", "rationale", "score"}}
        if self.drop_wrong:
            needed[self.rows].add("reference_answer")
        if (drafts := self._drafts()) is not None:
            needed.setdefault(drafts, set()).update({"id", "prompt", "question"})
        return needed

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

    def _rows(self, context: Context) -> Iterator[Row]:
        margins: list[tuple[str, float]] = []
        no_pair: Counter[str] = Counter()
        strategies: dict[str, Counter[str]] = {"chosen": Counter(), "rejected": Counter()}
        unscored = 0
        drafts = self._drafts_by_id(context)
        for task, rows in by_task(context.each_row(self.rows)).items():
            candidates = self._candidates(rows, context)
            unscored += sum(row["score"] is None for row in candidates)
            questions = self._question_rows(candidates, drafts, no_pair, context.seed)
            rationales = self._rationale_rows(candidates, no_pair, strategies, context.seed)
            for row in chain(questions, rationales):
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
            raise DataError(
                f"no pair of '{self.rows}' has a margin ({reasons or 'no scored candidate'}). "
                f"{lower if self.min_margin else 'Score'} on more items (`n` of select_items), or "
                "make candidates that differ more (`n` and sampling.temperature of generate)"
            )

    def _drafts_by_id(self, context: Context) -> dict[str, Row]:
        name = self._drafts()
        drafts = {row["id"]: row for row in context.each_row(name)} if name is not None else {}
        for row in drafts.values():
            if not str(row["prompt"] or "").strip():
                raise DataError(f"row {row['id']} of '{self.questions}' has no prompt")
        return drafts

    def _candidates(self, rows: list[Row], context: Context) -> list[Row]:
        if not self.drop_wrong:
            return rows
        right = [row for row in rows if row["score"] is None or self._is_right(row)]
        context.drop("rationale with a wrong answer", len(rows) - len(right))
        return right

    def _is_right(self, row: Row) -> bool:
        answer = extract_answer(row["rationale"], self.answer_kind)
        return answers_equal(answer, row["reference_answer"] or "", self.answer_kind)

    def _question_rows(
        self, rows: list[Row], drafts: Mapping[str, Row], no_pair: Counter[str], seed: int
    ) -> Iterator[Row]:
        if "question" not in self.kinds:
            return
        template = load_template(self.question_template)
        questions = []
        for identity, score in question_scores((r["parent_id"], r["score"]) for r in rows).items():
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
            min_margin=self.min_margin,
            seed=seed,
        )
        no_pair.update({f"question pair: {reason}": n for reason, n in found.dropped.items()})
        for pair in found.pairs:
            identity = f"question-{pair.chosen.id}-{pair.rejected.id}"
            yield _row(identity, drafts[pair.chosen.id]["prompt"], "question", pair)

    def _rationale_rows(
        self,
        rows: list[Row],
        no_pair: Counter[str],
        strategies: Mapping[str, Counter[str]],
        seed: int,
    ) -> Iterator[Row]:
        if "rationale" not in self.kinds:
            return
        template = load_template(str(self.rationale_template))
        candidates = {row["id"]: row for row in rows if row["score"] is not None}
        groups: dict[str, list[ScoredText]] = {}
        for row in candidates.values():
            scored = ScoredText(row["id"], row["score"], row["rationale"])
            groups.setdefault(row["parent_id"], []).append(scored)
        unscored = {row["parent_id"] for row in rows}.difference(groups)
        found = rationale_pairs(
            {**groups, **{identity: [] for identity in unscored}},
            limit=self.rationale_pairs,
            min_margin=self.min_margin,
            seed=seed,
        )
        no_pair.update({f"rationale pair: {reason}": n for reason, n in found.dropped.items()})
        for pair in found.pairs:
            for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
                strategies[side][str(candidates[text.id].get("strategy") or "all")] += 1
            chosen = candidates[pair.chosen.id]
            prompt = self._render(template, chosen)
            yield _row(f"rationale-{chosen['parent_id']}", prompt, "rationale", pair)

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
