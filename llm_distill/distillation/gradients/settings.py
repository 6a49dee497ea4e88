"""What the stages that score texts by a student's gradients have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from llm_distill.distillation.rows import RowText
from llm_distill.errors import DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Model, Rows, execution_setting
from llm_distill.training.settings import LoraSettings, TrainingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.distillation.gradients.student import Student
    from llm_distill.distillation.gradients.texts import Texts
    from llm_distill.models.sources import ModelSource


class StudentGradients(TrainingSettings, RowText):
    """Candidates, reference rows, a student, and a short training of it before.

    The settings of a training are those of `warm_up`. Without one the model is taken as it is, with
    an optimizer that has made no step.
    """

    of_the_score: ClassVar[frozenset[str]] = frozenset()
    """Settings of a training that the score reads too."""

    rows: Rows = Field(description="the stage whose rows are scored")
    reference: Rows = Field(
        description="the stage whose rows the student is to get better at; take none of the exam's"
    )
    model: Model = Field(description="the student")
    reference_prompt_template: str | None = Field(
        None, description="makes the prompt of a reference row; null: as for `rows`"
    )
    reference_completion_column: str | None = Field(
        None, description="what answers the prompt of a reference row; null: as for `rows`"
    )
    warm_up: Rows | None = Field(
        None,
        description="the stage whose rows the student is trained on before; their text stands "
        "where that of `rows` does",
    )
    peft: LoraSettings | None = Field(
        LoraSettings(), description="of which weights: a LoRA adapter's; null takes all"
    )
    batch_tokens: int = execution_setting(
        8192, "tokens in a forward pass over reference rows, with padding", ge=1
    )

    @model_validator(mode="after")
    def _reference_has_a_prompt(self) -> Self:
        own = ("reference_prompt_template", "reference_completion_column")
        given = [name for name in own if getattr(self, name) is not None]
        other = self.messages_column or self.text_column
        if given and other is not None:
            raise ValueError(
                f"{', '.join(given)} needs rows with a prompt and a completion; without it, "
                f"reference rows have their text in '{other}' too"
            )
        return self

    @model_validator(mode="after")
    def _training_settings_go_with_a_warm_up(self) -> Self:
        idle = set(TrainingSettings.model_fields) - {"peft", "max_length", *self.of_the_score}
        given = sorted(self.model_fields_set & (idle | {"warm_up_share"}))
        if self.warm_up is None and given:
            raise ValueError(
                f"{', '.join(given)} does nothing without a training before; name its rows in "
                "warm_up, or remove it"
            )
        return self

    def reference_text(self) -> RowText:
        """Where the text of a reference row stands."""
        changed = {
            "prompt_template": self.reference_prompt_template,
            "completion_column": self.reference_completion_column,
        }
        return self.model_copy(update={k: v for k, v in changed.items() if v is not None})

    def required_columns(self) -> dict[str, set[str]]:
        needed: dict[str, set[str]] = {}
        for rows, text in self._inputs():
            needed.setdefault(rows, set()).update({"id"} | text.text_columns())
        return needed

    def read_as_text(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for rows, text in self._inputs():
            columns = text.text_columns() - {self.messages_column or ""}
            found.setdefault(rows, set()).update(columns)
        return found

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        """A template that several inputs are rendered with reads what all of them have."""
        found: dict[str, Columns] = {}
        for rows, text in self._inputs():
            for template, offered in text.offered(inputs[rows]).items():
                other = found.get(template)
                found[template] = offered if other is None else other & (offered or other)
        return found

    def _inputs(self) -> list[tuple[str, RowText]]:
        warm_up: list[tuple[str, RowText]] = [] if self.warm_up is None else [(self.warm_up, self)]
        return [(self.rows, self), (self.reference, self.reference_text()), *warm_up]

    def encoder(self, source: ModelSource) -> RowEncoder:
        """As training has it."""
        from llm_distill.distillation.alignment.encoding import row_encoder

        turns = {"answers": self.answers, "thoughts": self.thoughts}
        return row_encoder(source, self.max_length, **turns)

    def texts(self, context: Context, encoder: RowEncoder) -> tuple[Texts, Texts]:
        """Of the candidates, and of the reference rows.

        Raises:
            DataError: there is no usable one of either.
        """
        from llm_distill.distillation.gradients.texts import read_texts

        candidates = read_texts(context.each_row(self.rows), self, encoder)
        reference = read_texts(context.each_row(self.reference), self.reference_text(), encoder)
        for name, found in ((self.rows, candidates), (self.reference, reference)):
            if not found.all:
                why = found.reasons() or "it is empty"
                raise DataError(f"no row of '{name}' has a text to score with: {why}")
        if len(reference.all) < len(reference.keys):
            context.warn(f"reference rows are left out: {reference.reasons()}")
        return candidates, reference

    def states(
        self, context: Context, encoder: RowEncoder, *, each_epoch: bool, share: float = 1.0
    ) -> list[Path]:
        """What the warm-up left, see `training.warm_up.warm_up`; nothing without one.

        share: of the rows, at random, that the student is trained on.
        """
        from llm_distill.distillation.alignment.encoding import in_loss
        from llm_distill.training.data import sft_example, token_dataset
        from llm_distill.training.warm_up import warm_up

        if self.warm_up is None:
            return []
        turns, tools = self.turns(), self.tools()

        def encode(row: Row) -> dict[str, Any]:
            encoded = encoder.encode(turns(row), tools(row), is_open=self.is_open(row))
            example = sft_example(encoded.ids.tolist(), [])
            for place in in_loss(encoded):
                example["labels"][place] = example["input_ids"][place]
            return example

        left_out: Counter[str] = Counter()
        rows = self._drawn(context, self.warm_up, share)
        dataset = token_dataset(
            rows, encode, lambda reason: left_out.update([reason]), self.warm_up
        )
        if left_out:
            why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
            context.warn(f"rows are left out of the warm-up: {why}")
        source, seed = context.model(self.model), derive_seed(context.seed, "warm_up")
        return warm_up(
            self, source, dataset, encoder.tokenizer, context, seed, each_epoch=each_epoch
        )

    def _drawn(self, context: Context, name: str, share: float) -> Iterator[Row]:
        """A random share of the rows, one at least, in their order."""
        seeds = [
            derive_seed(context.seed, "warm_up", identity) for identity in context.rows(name)["id"]
        ]
        last = sorted(seeds)[max(1, round(share * len(seeds))) - 1] if seeds else 0
        for row, seed in zip(context.each_row(name), seeds, strict=True):
            if seed <= last:
                yield row

    def student(self, context: Context, candidates: Texts, reference: Texts) -> Student:
        """The student before its warm-up, on the GPU if there is one.

        Raises:
            ModelError: it cannot be loaded, or a text has a token that it has not.
        """
        from llm_distill.distillation.gradients.student import Student
        from llm_distill.models.memory import fits_memory
        from llm_distill.models.sources import choose_device
        from llm_distill.training.warm_up import start_model

        source = context.model(self.model)
        model = start_model(self, source, derive_seed(context.seed, "warm_up"))
        device = choose_device("auto", "device")
        with fits_memory(f"model '{source.name}'", device):
            student = Student(model.to(device), source.name, self.batch_tokens)
        student.check([*candidates.of.values(), *reference.of.values()])
        return student

    def out_of_memory(self) -> str:
        """What to do where memory does not suffice."""
        advice = "" if self.peft else ", score by a LoRA adapter (peft)"
        return (
            f"scoring ran out of memory; lower max_length (now {self.max_length}) or batch_tokens "
            f"(now {self.batch_tokens}){advice}"
        )

    def note_scores(self, context: Context, texts: Texts, n_scored: int) -> None:
        """Say how many candidates have a score.

        Raises:
            DataError: none has.
        """
        total = len(texts.keys)
        reasons = texts.reasons()
        if not n_scored:
            raise DataError(f"no candidate of '{self.rows}' has a score: {reasons}")
        if n_scored < total:
            context.warn(f"{total - n_scored} of {total} candidates have no score: {reasons}")
        context.metrics.update(
            candidates_scored=len(texts.of),
            candidates_repeated=len(texts.all) - len(texts.of),
            unscored=total - n_scored,
        )
