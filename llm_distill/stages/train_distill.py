"""Train a student on a teacher's likelihoods of the same text, whatever their tokenizers.

in:  {"id": "a", "prompt": "What is 2 + 2?", "completion": "It is 4.", "teacher_logps": [-0.1, …],
      "teacher_log_pbs": [-0.0, …], "scored_by": "…", "scored_text": "…"}
out: a model directory, or an adapter directory
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.rows import RowText
from llm_distill.distillation.settings import DistillSettings
from llm_distill.errors import ConfigError
from llm_distill.evaluation.results import Results
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Model, ModelOutput, Rows, Stage
from llm_distill.training.settings import HeldOutSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.distillation.teacher.signal import TeacherSignal
    from llm_distill.models.sources import ModelSource
    from llm_distill.training.data import Labelled

SCORED = {"teacher_logps", "scored_by", "scored_text"}
TOP = {"teacher_top_ids", "teacher_top_logps"}
REMEDIES = {
    **dict.fromkeys(SCORED, "score_likelihood gives it; or set online: true"),
    **dict.fromkeys(TOP, "score_likelihood gives it with top_k; or set online: true"),
    "teacher_log_pbs": "score_likelihood gives it, unless its scorer is an engine: then set "
    "alm.debias: false",
}


class TrainDistill(HeldOutSettings, RowText, DistillSettings, Stage):
    """Distillation by approximate likelihood matching (ALM, arXiv 2503.20083), and other losses.

    `alm` matches the student's likelihoods of pieces of text to the teacher's, even if their
    tokenizers differ. `sft` learns the text itself. `forward_kl`, `reverse_kl` and `jsd` compare
    whole distributions, so they need the same tokenizer on both sides, and either `online: true`
    or rows with the teacher's likeliest tokens (all others are then one bucket). `uld`, `gold`,
    `p_kl`, `h_kl` and `simct` compare them across tokenizers, and need `online: true`. The loss is
    over the completion, the assistant's messages, or a whole document.
    """

    without_effect = frozenset(
        {"label_smoothing_factor", "loss_type", "pad_to_multiple_of", "use_liger_kernel"}
    )
    output = "model"

    always_seeded = True
    stage: Literal["train_distill"]
    model: Model = Field(description="the student to start from")
    teacher: Model | None = Field(None, description="the model to learn from; not needed for sft")
    rows: Rows = Field(description="the stage whose rows it is trained on")
    teacher_prompt_template: str | None = Field(
        None,
        description="the prompt that the rows were scored under; null: the student's",
    )
    online: bool | Literal["adapter_off"] = Field(
        False,
        description="true: keep the teacher in memory and score each batch; no stored scores. "
        "adapter_off: self-distillation: the teacher is the student without its adapter, as it "
        "was before transfer_tokenizer, so that its layers are in memory once",
    )
    max_dropped: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of rows that may be left out because teacher and student normalise them "
        "to different texts",
    )
    if_no_rows: Literal["fail", "keep_model"] = Field(
        "fail", description="keep_model: without rows the model is passed on as it is"
    )

    @model_validator(mode="after")
    def _has_a_teacher(self) -> TrainDistill:
        asking = ["online"] * bool(self.online) + self.from_teacher()
        if asking and self.teacher is None:
            raise ValueError(f"{', '.join(asking)} needs a teacher")
        across = self.losses.needing(Needs.SPANS)
        if across and not self.online:
            raise ValueError(
                f"losses: {', '.join(across)} compares the teacher's whole distributions, which no "
                "stored scores hold; set online: true, or take alm, which needs one number a token"
            )
        if self.teacher_prompt_template and (self.messages_column or self.text_column):
            raise ValueError("teacher_prompt_template needs rows with a prompt and a completion")
        if self.online == "adapter_off" and self.peft is None:
            raise ValueError("online: adapter_off needs peft: there is no adapter to turn off")
        if self.launch.is_sharded() and self.online == "adapter_off":
            raise ValueError(
                "online: adapter_off reads the student's own layers, which launch.strategy divides "
                "among processes; use ddp, or online: true"
            )
        if self.launch.is_sharded() and self.combine == "grad_mag":
            raise ValueError(
                "combine: grad_mag measures gradients of one layer, which launch.strategy divides "
                "among processes; use ddp, or combine: fixed"
            )
        return self

    def loads(self, place: str) -> bool:
        """Of a teacher whose scores are stored the tokenizer is read alone."""
        return place != "teacher" or bool(self.online)

    def reads_tokenizer(self, place: str) -> bool:
        return place == "teacher"

    def asks(self, place: str) -> None:
        return None

    def read_as_text(self) -> dict[str, set[str]]:
        columns = self.text_columns() - {self.messages_column or ""}
        return dict.fromkeys(self.all_rows(), columns)

    def required_columns(self) -> dict[str, set[str]]:
        columns = {"id"} | self.text_columns()
        if self.from_teacher() and not self.online:
            columns |= SCORED
            columns |= {"teacher_log_pbs"} if self.debiases() else set()
            columns |= TOP if self.losses.needing(Needs.DISTRIBUTIONS) else set()
        return dict.fromkeys(self.all_rows(), columns)

    def remedy(self, column: str) -> str | None:
        return REMEDIES.get(column)

    def may_be_empty(self) -> set[str]:
        return {self.rows} if self.if_no_rows == "keep_model" else set()

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        columns = inputs[self.rows]
        return self.offered(columns) | self._as_the_teacher_reads().offered(columns)

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.training.launch import encoded_once
        from llm_distill.training.train import save_untrained, train_and_save

        source = context.model(self.model)
        seed = derive_seed(context.seed, "train_distill")
        if self.if_no_rows == "keep_model" and not len(context.rows(self.rows)):
            context.warn(f"'{self.rows}' has no rows: model '{self.model}' is passed on untrained")
            return save_untrained(self, source, context, seed)
        student, teacher = self._encoders(context)
        signal = self._signal(context, teacher, student)

        def encoded(name: str) -> Dataset:
            return self._dataset(name, context, student, teacher, signal)

        dataset = encoded_once(lambda: encoded(self.rows), context.work_dir)
        held_out = self.held_out(encoded, context.work_dir)

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            from llm_distill.distillation.trainer import distill_trainer

            given = model, dataset, student, arguments, peft_config, self, signal
            return distill_trainer(*given, held_out)

        return train_and_save(self, source, dataset, trainer, context, seed)

    def labelled(self, source: ModelSource) -> Callable[[Row], list[Labelled]]:
        """See `training.data.Labelled`; of the student."""
        from llm_distill.distillation.alignment.encoding import row_encoder
        from llm_distill.distillation.teacher.scoring import in_loss
        from llm_distill.models.sources import context_length
        from llm_distill.training.data import labelled

        encoder = row_encoder(
            source,
            min(self.max_length, context_length(source)),
            answers=self.answers,
            thoughts=self.thoughts,
        )
        turns, tools = self.turns(), self.tools()

        def of(row: Row) -> list[Labelled]:
            encoded = encoder.encode(turns(row), tools(row), is_open=self.is_open(row))
            index = set(in_loss(encoded).tolist())
            ids = encoded.ids.tolist()
            in_loss_at = [place in index for place in range(len(ids))]
            return [labelled(encoder.tokenizer, ids, in_loss_at)]

        return of

    def _as_the_teacher_reads(self) -> RowText:
        if self.teacher_prompt_template is None:
            return self
        return self.model_copy(update={"prompt_template": self.teacher_prompt_template})

    def _encoders(self, context: Context) -> tuple[RowEncoder, RowEncoder | None]:
        """The student's and, if a loss needs it, the teacher's.

        Raises:
            ConfigError: a loss needs the same tokenizer on both sides, and they differ.
        """
        from llm_distill.distillation.alignment.encoding import row_encoder
        from llm_distill.distillation.alignment.vocabularies import difference

        source = context.model(self.model)
        turns = {"answers": self.answers, "thoughts": self.thoughts}
        student = row_encoder(source, self.max_length, **turns)
        if self.teacher is None or not self.from_teacher():
            return student, None
        other = context.model(self.teacher)
        teacher = row_encoder(other, None, **turns)
        shared = self.losses.needing(Needs.DISTRIBUTIONS)
        how = difference(teacher.tokenizer, student.tokenizer) if shared else None
        if how is not None:
            raise ConfigError(
                f"losses.{shared[0]} compares distributions over tokens, and the tokenizers of "
                f"'{self.teacher}' and '{self.model}' differ: {how}; across tokenizers use alm"
            )
        return student, teacher

    def _signal(
        self, context: Context, teacher: RowEncoder | None, student: RowEncoder
    ) -> TeacherSignal | None:
        """Where the teacher's likelihoods come from; None if no loss needs them."""
        from llm_distill.distillation.teacher.identity import scored_by
        from llm_distill.distillation.teacher.online import TeacherInMemory
        from llm_distill.distillation.teacher.own_teacher import OwnTeacher
        from llm_distill.distillation.teacher.stored import StoredScores

        if self.teacher is None or teacher is None:
            return None
        source = context.model(self.teacher)
        if not self.online:
            n_tokens = len(teacher.table.lengths)
            return StoredScores(self.rows, self.teacher, scored_by(source), n_tokens, self)
        kind = OwnTeacher if self.online == "adapter_off" else TeacherInMemory
        return kind(source, teacher, self, student)

    def _dataset(
        self,
        name: str,
        context: Context,
        student: RowEncoder,
        teacher: RowEncoder | None,
        signal: TeacherSignal | None,
    ) -> Dataset:
        """The training data; the metrics get how the texts align."""
        from llm_distill.distillation.dataset import RowPreparation, prepared
        from llm_distill.distillation.teacher.stored import StoredScores

        is_scored = "teacher_logps" in context.rows(name).column_names
        if self.online and self.from_teacher() and is_scored:
            context.warn(
                f"'{name}' has stored scores (teacher_logps), which online: "
                f"{str(self.online).lower()} does not use: the teacher scores the rows anew; set "
                "online: false to train on them"
            )
        if isinstance(signal, StoredScores):
            signal = replace(signal, rows=name)  # for messages
        preparation = RowPreparation(
            student,
            teacher,
            self.turns(),
            self._as_the_teacher_reads().turns(),
            self,
            signal,
            self.tools(),
            self.is_open,
        )
        rows = context.each_row(name)
        dataset = prepared(rows, preparation, context.drop, name, self.max_dropped)
        if name == self.rows and self.losses.needing(Needs.CHUNKS | Needs.SPANS):
            aligned = Results(alignment=preparation.report.figures())
            context.metrics.update(aligned.to_metrics())
        return dataset
