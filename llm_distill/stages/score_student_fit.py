"""Score how well each candidate fits a student, from the student's forward passes alone.

in:  {"id": "q1-a", "prompt": "1 + 2?", "completion": "1 + 2 = 3."}
out: {"id": "q1-a", "prompt": "1 + 2?", "completion": "1 + 2 = 3.", "score": -2.1,
      "metric": "rsr_100", "n_tokens": 8, "mean_nll": 1.9, "mean_rank": 4.0}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.distillation.rows import AnsweredRow
from llm_distill.errors import DataError
from llm_distill.methods.in_context_score import mean_by
from llm_distill.methods.student_fit import ifd, mean_nll, rsr, scas
from llm_distill.models.sources import Device
from llm_distill.rows.columns import Row, features
from llm_distill.stage import (
    Columns,
    Context,
    Model,
    Rows,
    RowsOutput,
    Stage,
    execution_setting,
)

if TYPE_CHECKING:
    from llm_distill.distillation.student_fit.asked import Told
    from llm_distill.distillation.student_fit.candidates import Candidates
    from llm_distill.distillation.student_fit.texts import ScoredText
    from llm_distill.models.sources import ModelSource
    from llm_distill.training.encoder import EncodedTurn, PairEncoder

Signal = Literal["nll_low", "nll_high", "ifd", "rsr", "scas"]

ADDED = {
    "nll_low": (),
    "nll_high": (),
    "ifd": ("mean_nll_alone", "ifd"),
    "rsr": ("mean_rank",),
    "scas": ("mean_nll_prompt", "similarity", "similarity_prompt"),
}
ONLY_OF = {"r_max": "rsr", "prompt_weight": "scas"}
NO_LIMIT = 10**9
Figures = dict[str, float]


class ScoreStudentFit(AnsweredRow, Stage):
    """Scores each candidate by what the student's forward pass says of it; higher is better.

    The tokens that count are those that `train_sft` would train, the end token among them. Signals:
    nll_low, the least mean surprisal wins, what fits; nll_high, the highest, what is hard; ifd, the
    surprisal divided by that without the question (above 1 there is no score); rsr, tokens that are
    surprising and yet among the likeliest (rank by surprisal, negated); scas, little surprisal of
    tokens that are not all alike within the student (negated). Compare candidates of one question.

    A row that cannot be scored (an `error`, no completion, too long) is passed on with a null score
    and counted. The model's own engine is asked, and what it says is kept; for scas the model is
    loaded with transformers.
    """

    reads_conversations = True
    stage: Literal["score_student_fit"]
    rows: Rows = Field(description="the stage whose rows are candidates")
    model: Model = Field(description="the student")
    signal: Signal = Field(description="what is measured, and which end of it is better")
    r_max: int = Field(100, ge=1, le=10**6, description="rsr: ranks count as at most this")
    prompt_weight: float = Field(
        0.5, ge=0, le=1, description="scas: λ, the share of the answer's likeness to the question"
    )
    max_length: int | None = Field(
        None, ge=2, description="longer rows, in tokens, get no score; null: the model's context"
    )
    batch_tokens: int = execution_setting(
        8192, "scas: tokens in a forward pass, with padding; a longer row gets its own", ge=1
    )
    device: Device = execution_setting("auto", "scas: auto takes the GPU if there is one")

    @model_validator(mode="after")
    def _settings_fit_the_signal(self) -> Self:
        for name, signal in ONLY_OF.items():
            if name in self.model_fields_set and self.signal != signal:
                raise ValueError(f"{name} is a setting of signal: {signal}, not of {self.signal}")
        return self

    def loads(self, place: str) -> bool:
        return self.signal == "scas"

    def reads_tokenizer(self, place: str) -> bool:
        return True

    def asks(self, place: str) -> Literal["likelihoods"] | None:
        return None if self.loads(place) else "likelihoods"

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id"} | self.text_columns()}

    def read_as_text(self) -> dict[str, set[str]]:
        return {} if self.messages_column is not None else {self.rows: self.text_columns()}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return self.offered(inputs[self.rows])

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self._added())

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows).features
        return RowsOutput(self._rows(context), features(self._added(), like=like))

    def _added(self) -> list[str]:
        return ["score", "metric", "n_tokens", "mean_nll", *ADDED[self.signal]]

    def _rows(self, context: Context) -> Iterator[Row]:
        from llm_distill.training.encoder import pair_encoder

        source = context.model(self.model)
        turns: dict[str, Any] = {"answers": self.answers, "thoughts": self.thoughts}
        encoder = pair_encoder(source, self.max_length or NO_LIMIT, **turns)
        cost: Counter[str] = Counter(forward_passes=0, tokens_read=0)
        unscored: Counter[str] = Counter()
        by_strategy: list[tuple[str, float]] = []
        n_tokens = 0
        metric = f"rsr_{self.r_max}" if self.signal == "rsr" else self.signal
        by = self._by_hidden if self.signal == "scas" else self._by_engine
        for row, found in by(context, source, encoder, cost):
            figures = {} if isinstance(found, str) else found
            score = found if isinstance(found, str) else self._score(figures)
            if isinstance(score, str):
                unscored[score] += 1
            else:
                by_strategy.append((str(row.get("strategy") or "all"), score))
            n_tokens += int(figures.get("n_tokens", 0))
            value = None if isinstance(score, str) else score
            named = {**dict.fromkeys(self._added()), **figures}
            yield {**row, **named, "score": value, "metric": metric}
        why = ", ".join(f"{count} {reason}" for reason, count in unscored.most_common())
        if not by_strategy:
            raise DataError(
                f"no candidate of '{self.rows}' has a score: {why or 'there are no rows'}"
            )
        if unscored:
            total = len(context.rows(self.rows))
            context.warn(f"{unscored.total()} of {total} candidates have no score: {why}")
        context.metrics.update(
            metric=metric,
            candidates_scored=len(by_strategy),
            unscored=dict(unscored),
            **cost,
            tokens_scored=n_tokens,
            mean_score=mean_by(by_strategy),
        )

    def _score(self, figures: Figures) -> float | str:
        """The higher the better; or why there is none."""
        nll = figures["mean_nll"]
        if self.signal == "ifd":
            ratio = figures.get("ifd")
            if ratio is None:
                return "no surprise without the question"
            return ratio if ratio <= 1 else "IFD above 1"
        if self.signal == "rsr":
            ratio = rsr(figures["mean_rank"], nll)
            return "no surprise at any token" if ratio is None else -ratio
        if self.signal == "scas":
            nll_prompt, own, to_prompt = (figures[name] for name in ADDED["scas"])
            return -scas(nll, nll_prompt, own, to_prompt, self.prompt_weight)
        return nll if self.signal == "nll_high" else -nll

    def _by_engine(
        self, context: Context, source: ModelSource, encoder: PairEncoder, cost: Counter[str]
    ) -> Iterator[tuple[Row, Figures | str]]:
        from llm_distill.distillation.student_fit.asked import asked
        from llm_distill.distillation.student_fit.texts import (
            bare_opening,
            scored_texts,
            with_and_without,
        )

        read: Callable[[list[EncodedTurn]], list[ScoredText]] = scored_texts
        if self.signal == "ifd":
            read = partial(with_and_without, opening=bare_opening(encoder).ids)
        candidates = self._candidates(context, encoder)

        def pairs() -> Iterator[tuple[Row, list[ScoredText]]]:
            for row, texts in candidates.usable(read):
                cost["forward_passes"] += len(texts)
                cost["tokens_read"] += sum(len(t.prompt) + len(t.completion) for t in texts)
                yield row, texts

        # No rank is above the number of tokens, and vLLM refuses to tell of more.
        ranks = min(self.r_max, len(encoder.tokenizer)) if self.signal == "rsr" else 0
        ask = partial(context.score, self.model)
        has_failed = False
        for row, told in candidates.joined(asked(pairs(), ask, source.name, ranks)):
            if isinstance(told, list):
                yield row, self._told(told)
            elif isinstance(told, str):
                yield row, told
            else:
                if not has_failed:
                    has_failed = True
                    context.warn(f"row '{row['id']}': the engine gives no score: {told.error}")
                yield row, "without a score of the engine"

    def _told(self, told: list[Told]) -> Figures:
        """A row's figures, from what the engine says of its texts."""
        if self.signal == "ifd":
            (given, _), (alone, _) = told
            nll, nll_alone = mean_nll(given), mean_nll(alone)
            ratio = ifd(nll, nll_alone)
            figures = {"n_tokens": len(given), "mean_nll": nll, "mean_nll_alone": nll_alone}
            return figures if ratio is None else {**figures, "ifd": ratio}
        logps = [logp for found, _ in told for logp in found]
        figures = {"n_tokens": len(logps), "mean_nll": mean_nll(logps)}
        if self.signal == "rsr":
            ranks = [rank for _, found in told for rank in found]
            figures["mean_rank"] = sum(ranks) / len(ranks)
        return figures

    def _by_hidden(
        self, context: Context, source: ModelSource, encoder: PairEncoder, cost: Counter[str]
    ) -> Iterator[tuple[Row, Figures | str]]:
        from llm_distill.distillation.student_fit.hidden import (
            PARTS,
            HiddenScorer,
            HiddenText,
            hidden_text,
        )
        from llm_distill.distillation.student_fit.texts import bare_opening, one_answer
        from llm_distill.distillation.teacher.windows import Scorer, scored_rows

        header = bare_opening(encoder).header
        special = frozenset({*encoder.tokenizer.all_special_ids, *encoder.ends})
        candidates = self._candidates(context, encoder)

        def read(turns: list[EncodedTurn]) -> HiddenText:
            return hidden_text(*one_answer(turns), header, special)

        opened: list[HiddenScorer] = []

        def scorer() -> Scorer[HiddenText]:
            opened.append(HiddenScorer(source, batch_tokens=self.batch_tokens, device=self.device))
            return opened[-1].score

        def found(note: Callable[[int, int], None]) -> Iterator[Figures]:
            folder = context.work_dir / "checkpoints"
            pairs = candidates.usable(read)
            for _, text, scores in scored_rows(pairs, scorer, lambda text: 1, folder, note):
                cost["forward_passes"] += 1
                cost["tokens_read"] += len(text.ids)
                parts = zip(PARTS, scores["parts"].tolist(), strict=True)
                yield {"n_tokens": len(text.answer), **dict(parts)}

        with context.progress(f"score ({self.model})", len(context.rows(self.rows))) as bar:
            yield from candidates.joined(found(bar.advance))
        for one in opened:
            one.close()

    def _candidates(self, context: Context, encoder: PairEncoder) -> Candidates:
        from llm_distill.distillation.student_fit.candidates import Candidates

        return Candidates(context.each_row(self.rows), self.encoded(encoder))
