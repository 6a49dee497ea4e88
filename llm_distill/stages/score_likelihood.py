"""Store a teacher's probabilities of given texts, for students with any tokenizer.

in:  {"id": "a", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4."}
out: {"id": "a", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4.",
      "teacher_logps": [-0.1, -0.02, …], "teacher_log_pbs": [-0.3, -0.01, …],
      "scored_by": "tiny-teacher 5c0a9e1b77d2", "scored_text": "81f2c09b4d7e"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from llm_distill.distillation.rows import RowText
from llm_distill.distillation.sampled import sampled_ids
from llm_distill.errors import DataError, ModelError
from llm_distill.models.sources import Device, context_length
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
    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.distillation.teacher.scoring import Scores, TeacherScorer
    from llm_distill.models.sources import ModelSource


class ScoreLikelihood(RowText, Stage):
    """Adds a model's likelihood of each row's text, token by token, for `train_distill`.

    For every token in the loss, including the end token: `teacher_logps`, its log-probability, and
    `teacher_log_pbs`, the log-probability that a word ends after it. That is 8 bytes per token; it
    is computed once, for any number of students, epochs and temperatures. With `top_k` also the
    likeliest tokens at each position, for students that have the teacher's tokenizer.

    Of rows with `completion_ids` (`generate` with `keep_tokens`) these tokens are scored as they
    are, if the teacher has the tokenizer of the model that sampled them; else the text.

    Rows that cannot be scored (no completion, too long) are counted and left out. A stage that was
    killed resumes. The model is loaded with transformers, whatever its engine, unless
    `scorer: engine` asks that engine, which does not give `teacher_log_pbs`: train on such rows
    with `alm.debias: false`.
    """

    needs_weights: ClassVar[bool] = True

    stage: Literal["score_likelihood"]
    rows: Rows = Field(description="the stage whose rows are scored")
    model: Model = Field(description="the teacher")
    max_length: int | None = Field(
        None, ge=2, description="longer rows, in tokens, are dropped; null: the model's context"
    )
    top_k: int | None = Field(
        None, ge=1, description="also keep this many of the likeliest tokens at each position"
    )
    scorer: Literal["forward_pass", "engine"] = Field(
        "forward_pass",
        description="engine: the model's own (prompt log-probabilities of vLLM, in process or "
        "on a server); 4 bytes per token, for ALM without debiasing",
    )
    batch_tokens: int = execution_setting(
        8192, "tokens in a forward pass, with padding; a longer row gets its own", ge=1
    )
    device: Device = execution_setting(
        "auto", "for forward_pass; auto takes the GPU if there is one"
    )

    def loads(self, place: str) -> bool:
        return self.scorer == "forward_pass"

    def reads_tokenizer(self, place: str) -> bool:
        return True

    def asks(self, place: str) -> Literal["likelihoods", "likeliest"] | None:
        if self.scorer == "forward_pass":
            return None
        return "likeliest" if self.top_k else "likelihoods"

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: self.text_columns() - {self.messages_column or ""}}

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id"} | self.text_columns()}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self._added())

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return self.offered(inputs[self.rows])

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows).features
        return RowsOutput(self._rows(context), features(self._added(), like=like))

    def _added(self) -> list[str]:
        top = ["teacher_top_ids", "teacher_top_logps"] if self.top_k else []
        ends = ["teacher_log_pbs"] if self.scorer == "forward_pass" else []
        return ["teacher_logps", *ends, *top, "scored_by", "scored_text"]

    def _rows(self, context: Context) -> Iterator[Row]:
        from llm_distill.distillation.alignment.encoding import row_encoder
        from llm_distill.distillation.teacher.identity import scored_by, scored_text

        source = context.model(self.model)
        turns = {"answers": self.answers, "thoughts": self.thoughts}
        encoder = row_encoder(source, self._longest(source.readable), **turns)
        who = scored_by(source)
        n_rows = n_tokens = 0
        by = self._by_engine if self.scorer == "engine" else self._by_forward_pass
        for row, encoded, scores in by(context, source, encoder):
            n_rows += 1
            n_tokens += len(scores["teacher_logps"])
            yield {**row, **scores, "scored_by": who, "scored_text": scored_text(encoded)}
        context.metrics.update(
            n_rows=n_rows,
            n_tokens=n_tokens,
            bytes_per_token=(4 if self.scorer == "engine" else 8) + 8 * (self.top_k or 0),
            can_debias=self.scorer != "engine",
            scored_by=who,
        )

    def _by_engine(
        self, context: Context, source: ModelSource, encoder: RowEncoder
    ) -> Iterator[tuple[Row, EncodedRow, Scores]]:
        from llm_distill.distillation.teacher.engine_scores import engine_scores

        pairs = self._encoded(context, encoder, lambda rows, tokens: None)
        ask = partial(context.score, self.model, total=len(context.rows(self.rows)))
        n_scored, first_failure = 0, ""
        for row, encoded, scores in engine_scores(pairs, ask, source.name, self.top_k):
            if isinstance(scores, str):
                context.drop("the engine gives no score")
                if not first_failure:
                    first_failure = f"row '{row['id']}': {scores}"
                    context.warn(first_failure)
                continue
            n_scored += 1
            yield row, encoded, scores
        if not n_scored:
            raise DataError(f"the engine cannot score any row of '{self.rows}'; {first_failure}")

    def _by_forward_pass(
        self, context: Context, source: ModelSource, encoder: RowEncoder
    ) -> Iterator[tuple[Row, EncodedRow, Scores]]:
        from llm_distill.distillation.teacher.scoring import TeacherScorer, in_loss
        from llm_distill.distillation.teacher.windows import Scorer, scored_rows

        opened: list[TeacherScorer] = []
        load = partial(TeacherScorer, source, encoder, top_k=self.top_k, device=self.device)

        def scorer() -> Scorer[EncodedRow]:
            opened.append(load(batch_tokens=self.batch_tokens))
            return opened[-1].score

        def n_scores(encoded: EncodedRow) -> int:
            return len(in_loss(encoded))

        n_tokens = 0
        folder = context.work_dir / "checkpoints"
        with context.progress(f"score ({self.model})", len(context.rows(self.rows))) as bar:
            pairs = self._encoded(context, encoder, bar.advance)
            for row, encoded, scores in scored_rows(pairs, scorer, n_scores, folder, bar.advance):
                n_tokens += len(scores["teacher_logps"])
                yield row, encoded, scores
        fresh = sum(one.n_tokens for one in opened)  # 0 if all scores were kept
        seconds = sum(one.seconds for one in opened)
        for one in opened:
            one.close()
        context.metrics.update(
            n_tokens_of_an_earlier_run=n_tokens - fresh,
            tokens_per_second=round(fresh / seconds, 1) if seconds else None,
        )

    def _longest(self, source: ModelSource) -> int | None:
        context = context_length(source)
        if self.max_length is not None and self.max_length > context:
            raise ModelError(
                f"max_length is {self.max_length}, but model '{source.name}' has a context of "
                f"{context} tokens"
            )
        return self.max_length

    def _encoded(
        self, context: Context, encoder: RowEncoder, note: Callable[[int, int], None]
    ) -> Iterator[tuple[Row, EncodedRow]]:
        """The rows that can be scored, with their tokens.

        Raises:
            DataError: there are none; with counts of the reasons.
        """
        from llm_distill.rows.unusable import UnusableRowError

        turns, tools = self.turns(), self.tools()
        refused: Counter[str] = Counter()
        is_empty = True
        for row in context.each_row(self.rows):
            try:
                is_open, ids = self.is_open(row), sampled_ids(row, encoder.vocabulary)
                encoded = encoder.encode(turns(row), tools(row), is_open=is_open, sampled=ids)
            except UnusableRowError as error:
                refused[str(error)] += 1
                context.drop(str(error))
                note(1, 0)
                continue
            is_empty = False
            yield row, encoded
        if is_empty:
            why = ", ".join(f"{count} {reason}" for reason, count in refused.items())
            raise DataError(f"no row of '{self.rows}' can be scored: {why or 'it is empty'}")
