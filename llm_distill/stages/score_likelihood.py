"""Store a teacher's probabilities of given texts, for students with any tokenizer.

in:  {"id": "a", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4."}
out: {"id": "a", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4.",
      "teacher_logps": [-0.1, -0.02, …], "teacher_log_pbs": [-0.3, -0.01, …],
      "scored_by": "tiny-teacher 5c0a9e1b77d2", "scored_text": "81f2c09b4d7e"}

With `teachers: {math: big_math, code: big_code}` each row is scored by the one that it names.
in:  {"id": "a", "teacher": "math", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4."}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.distillation.rows import RowText
from llm_distill.distillation.sampled import sampled_ids
from llm_distill.distillation.teachers import (
    Share,
    Tally,
    Teachers,
    Weights,
    check_mixture,
    shares,
)
from llm_distill.errors import DataError, ModelError, counted, few
from llm_distill.evaluation.results import FigureTable, shown
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
    later_setting,
)

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.distillation.teacher.mixture import Mixture
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

    With `teachers` each row is scored once, by the one that its column `teacher_column` names. One
    of them is in memory at a time, so the rows come out teacher by teacher. With `teacher_weights`
    all of them score each row, and the probability of a token is their weighted mean; these
    teachers share a tokenizer.
    """

    needs_weights: ClassVar[bool] = True

    stage: Literal["score_likelihood"]
    rows: Rows = Field(description="the stage whose rows are scored")
    model: Model | None = Field(None, description="the teacher")
    teachers: Teachers | None = later_setting(
        None, "instead of model: several by name, such as {math: big_math, code: big_code}"
    )
    teacher_column: str = later_setting(
        "teacher", "of `teachers`: the column with the name of the row's", min_length=1
    )
    teacher_weights: Weights | None = later_setting(
        None,
        "instead of teacher_column: all `teachers` score each row, and a token's probability is "
        "their mean with these weights, such as {math: 0.7, code: 0.3}",
    )
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

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.model is None) == (self.teachers is None):
            raise ValueError("give one of model and teachers")
        if self.teachers is None and "teacher_column" in self.model_fields_set:
            raise ValueError("teacher_column goes with teachers")
        check_mixture(self.teachers, self.teacher_weights)
        if self.teacher_weights is not None and "teacher_column" in self.model_fields_set:
            raise ValueError("teacher_weights and teacher_column exclude each other")
        if self.teacher_weights is not None and self.top_k is not None:
            raise ValueError(
                "teacher_weights and top_k exclude each other: a token may be among the likeliest "
                "of a mixture and of none of its teachers"
            )
        return self

    def loads(self, place: str) -> bool:
        return self.scorer == "forward_pass"

    def reads_tokenizer(self, place: str) -> bool:
        return True

    def asks(self, place: str) -> Literal["likelihoods", "likeliest"] | None:
        if self.scorer == "forward_pass":
            return None
        return "likeliest" if self.top_k else "likelihoods"

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: self.text_columns() - {self.messages_column or ""} | self._routed_by()}

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id"} | self.text_columns() | self._routed_by()}

    def remedy(self, column: str) -> str | None:
        if column in self._routed_by():
            return "it says which of `teachers` scores a row; name another with teacher_column"
        return None

    def _routed_by(self) -> set[str]:
        return set() if self.teachers is None or self.teacher_weights else {self.teacher_column}

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
        tallies: dict[str, Tally] = {}
        mixture = self._mixture(context)
        logps = [name for name in self._added() if name.startswith("teacher_log")]
        for number, share in enumerate(self._shares(context)):
            folder = context.work_dir / "checkpoints"
            if self.teachers is not None:
                folder /= f"teacher-{number:02d}"
            tallies[share.title] = Tally()
            rows = self._of_teacher(context, share, folder, tallies[share.title])
            if mixture is None:
                yield from rows
                continue
            for row in rows:
                scores = {name: row[name] for name in logps}
                mixed = mixture.add(number, row["id"], row["scored_text"], scores)
                if mixed is not None:
                    yield {**row, **mixed, "scored_by": self._mixed_by(tallies)}
        every = tallies.values()
        context.metrics.update(
            n_rows=sum(tally.n_rows for tally in every),
            n_tokens=sum(tally.n_tokens for tally in every),
            bytes_per_token=(4 if self.scorer == "engine" else 8) + 8 * (self.top_k or 0),
            can_debias=self.scorer != "engine",
        )
        if self.scorer == "forward_pass":
            read = sum(tally.n_tokens + tally.n_impossible for tally in every)
            fresh = sum(tally.n_fresh for tally in every)  # 0 if all scores were kept
            seconds = sum(tally.seconds for tally in every)
            context.metrics.update(
                n_tokens_of_an_earlier_run=read - fresh,
                tokens_per_second=round(fresh / seconds, 1) if seconds else None,
            )
        if self.teachers is None:
            context.metrics["scored_by"] = next(tally.who for tally in every)
            return
        context.metrics["scored_by"] = {title: tally.who for title, tally in tallies.items()}
        if mixture is not None:
            if not mixture.n_mixed:
                raise DataError(
                    f"no row of '{self.rows}' is the same tokens for all of the teachers "
                    f"{', '.join(tallies)}: their chat templates differ; set a chat_template for "
                    "them under models:"
                )
            context.drop("not scored by every teacher", mixture.n_left)
            refused = {name: why for tally in every for name, why in tally.refused.items()}
            for why, count in mixture.nobodys(refused).items():
                context.drop(why, count)
            context.metrics.update(n_rows=mixture.n_mixed, scored_by=self._mixed_by(tallies))
        figures = tuple(tally.figure(title) for title, tally in tallies.items())
        context.metrics.update(shown(FigureTable("log-probability of a token", figures)))

    def _shares(self, context: Context) -> list[Share]:
        """Whose rows are scored, before any is.

        Raises:
            DataError: a row names no teacher that there is.
        """
        if self.teachers is None:
            assert self.model is not None
            return [Share(self.model, (), len(context.rows(self.rows)))]
        if self.teacher_weights is not None:
            n_rows = len(context.rows(self.rows))
            given = enumerate(self.teachers.items())
            return [Share(model, (name,), n_rows, True, n > 0) for n, (name, model) in given]
        rows = context.each_row(self.rows)
        found, unnamed = shares(rows, self.teachers, self.teacher_column, self.rows)
        for name in unnamed:
            context.warn(
                f"no row of '{self.rows}' names the teacher '{name}' in its column "
                f"'{self.teacher_column}': '{self.teachers[name]}' scores nothing"
            )
        return found

    def _mixture(self, context: Context) -> Mixture | None:
        """Raises:
        ConfigError: its teachers have different tokenizers.
        """
        from llm_distill.distillation.teacher.mixture import mixture_of

        if self.teachers is None or self.teacher_weights is None:
            return None
        sources = {name: context.model(model) for name, model in self.teachers.items()}
        return mixture_of(sources, self.teacher_weights)

    def _mixed_by(self, tallies: Mapping[str, Tally]) -> str:
        from llm_distill.distillation.teacher.mixture import mixed_by, shares_of

        weights = shares_of(self.teacher_weights or {})
        return mixed_by([(tally.who, weights[name]) for name, tally in tallies.items()])

    def _of_teacher(
        self, context: Context, share: Share, folder: Path, tally: Tally
    ) -> Iterator[Row]:
        """Its rows with their scores. folder: where they are kept as they are done."""
        from llm_distill.distillation.alignment.encoding import row_encoder
        from llm_distill.distillation.teacher.identity import scored_by, scored_text

        source = context.model(share.model)
        turns = {"answers": self.answers, "thoughts": self.thoughts}
        encoder = row_encoder(source, self._longest(source.readable), **turns)
        tally.who = scored_by(source)
        by = self._by_engine if self.scorer == "engine" else self._by_forward_pass
        for row, encoded, scores in by(context, share, source, encoder, folder, tally):
            tally.n_rows += 1
            tally.n_tokens += len(scores["teacher_logps"])
            tally.total += float(scores["teacher_logps"].sum(dtype="float64"))
            yield {**row, **scores, "scored_by": tally.who, "scored_text": scored_text(encoded)}

    def _by_engine(
        self,
        context: Context,
        share: Share,
        source: ModelSource,
        encoder: RowEncoder,
        folder: Path,
        tally: Tally,
    ) -> Iterator[tuple[Row, EncodedRow, Scores]]:
        from llm_distill.distillation.teacher.engine_scores import engine_scores

        pairs = self._encoded(context, share, encoder, tally, lambda rows, tokens: None)
        ask = partial(context.score, share.model, total=share.n_rows)
        n_scored, first_failure = 0, ""
        for row, encoded, scores in engine_scores(pairs, ask, source.name, self.top_k):
            if isinstance(scores, str):
                self._refuse(context, share, tally, row, "the engine gives no score")
                if not first_failure:
                    first_failure = f"row '{row['id']}': {scores}"
                    context.warn(first_failure)
                continue
            n_scored += 1
            yield row, encoded, scores
        if not n_scored:
            raise DataError(
                f"the engine cannot score any row of {self._of(share)}; {first_failure}"
            )

    def _by_forward_pass(
        self,
        context: Context,
        share: Share,
        source: ModelSource,
        encoder: RowEncoder,
        folder: Path,
        tally: Tally,
    ) -> Iterator[tuple[Row, EncodedRow, Scores]]:
        import numpy as np

        from llm_distill.distillation.alignment.encoding import in_loss
        from llm_distill.distillation.teacher.engine_scores import IMPOSSIBLE
        from llm_distill.distillation.teacher.scoring import TeacherScorer
        from llm_distill.distillation.teacher.windows import Scorer, scored_rows

        opened: list[TeacherScorer] = []
        load = partial(TeacherScorer, source, encoder, top_k=self.top_k, device=self.device)

        def scorer() -> Scorer[EncodedRow]:
            opened.append(load(batch_tokens=self.batch_tokens))
            return opened[-1].score

        def n_scores(encoded: EncodedRow) -> int:
            return len(in_loss(encoded))

        n_scored, impossible = 0, list[str]()
        with context.progress(f"score ({share.model})", share.n_rows) as bar:
            pairs = self._encoded(context, share, encoder, tally, bar.advance)
            for row, encoded, scores in scored_rows(pairs, scorer, n_scores, folder, bar.advance):
                if any(
                    np.isneginf(scores[name]).any() for name in ("teacher_logps", "teacher_log_pbs")
                ):
                    self._refuse(context, share, tally, row, IMPOSSIBLE)
                    impossible.append(str(row["id"]))
                    tally.n_impossible += len(scores["teacher_logps"])
                    continue
                n_scored += 1
                yield row, encoded, scores
        for one in opened:
            tally.n_fresh += one.n_tokens
            tally.seconds += one.seconds
            one.close()
        if impossible and not n_scored:
            raise DataError(f"no row of {self._of(share)} can be scored: {IMPOSSIBLE}")
        if impossible:
            context.warn(
                f"{counted(len(impossible), 'text')} of '{self.rows}' left out, {few(impossible)}: "
                f"{IMPOSSIBLE}"
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
        self,
        context: Context,
        share: Share,
        encoder: RowEncoder,
        tally: Tally,
        note: Callable[[int, int], None],
    ) -> Iterator[tuple[Row, EncodedRow]]:
        """The teacher's rows that can be scored, with their tokens.

        Raises:
            DataError: there are none; with counts of the reasons.
        """
        from llm_distill.rows.unusable import OF_THE_TEMPLATE, UnusableRowError, remedies

        turns, tools = self.turns(), self.tools()
        refused: Counter[str] = Counter()
        is_empty, n_cut = True, 0
        for row in context.each_row(self.rows):
            is_routed = self.teachers is not None and not share.is_of_all
            if is_routed and row[self.teacher_column] not in share.names:
                continue
            try:
                is_open, ids = self.is_open(row), sampled_ids(row, encoder.vocabulary)
                encoded = encoder.encode(turns(row), tools(row), is_open=is_open, sampled=ids)
            except UnusableRowError as error:
                refused[str(error)] += 1
                self._refuse(context, share, tally, row, str(error))
                note(1, 0)
                continue
            is_empty = False
            n_cut += self.ends_what_was_cut(row) and not encoded.is_sampled
            yield row, encoded
        if n_cut and not share.is_again:
            context.warn(
                f"{n_cut} texts of '{self.rows}' were cut by max_tokens, and are read as if they "
                "ended there; set truncated: open or drop, here and where they are trained on"
            )
        if is_empty:
            why = ", ".join(f"{count} {reason}" for reason, count in refused.items())
            raise DataError(
                f"no row of {self._of(share)} can be scored: {why or 'it is empty'}"
                f"{remedies(refused)}"
            )
        n_odd = sum(n for why, n in refused.items() if why.startswith(OF_THE_TEMPLATE))
        if n_odd:
            context.warn(
                f"{counted(n_odd, 'text')} of '{self.rows}' left out, {OF_THE_TEMPLATE} of "
                f"'{share.model}'{remedies([OF_THE_TEMPLATE])}"
            )

    def _refuse(self, context: Context, share: Share, tally: Tally, row: Row, reason: str) -> None:
        """Count a row as dropped; of a mixture once all teachers have been asked."""
        if share.is_of_all:
            tally.refused[row["id"]] = reason
        else:
            context.drop(reason)

    def _of(self, share: Share) -> str:
        """The rows, for messages."""
        is_routed = self.teachers is not None and not share.is_of_all
        of = f" whose teacher is {share.title}" if is_routed else ""
        return f"'{self.rows}'{of}"
