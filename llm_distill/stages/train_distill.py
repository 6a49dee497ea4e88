"""Train a student on what a teacher says of the same text, whatever their tokenizers.

in:  {"id": "a", "prompt": "What is 2 + 2?", "completion": "It is 4.", "teacher_logps": [-0.1, …],
      "teacher_log_pbs": [-0.0, …], "scored_by": "…"}    as `score_likelihood` leaves it
out: a model directory, or an adapter directory
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from llm_distill.columns import Row
from llm_distill.distillation.settings import AlmSettings, Combine, LossWeights
from llm_distill.engines.requests import offered_variables, render_prompt, template_values
from llm_distill.errors import ConfigError, DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.stage import Columns, Context, Model, ModelOutput, Rows, Stage
from llm_distill.training.settings import TrainingSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.encoding import RowEncoder
    from llm_distill.models import ModelSource


class TrainDistill(TrainingSettings, Stage):
    """Distillation by approximate likelihood matching (ALM, arXiv 2503.20083), and its neighbours.

    `alm` brings the student's likelihoods of pieces of text to the teacher's, where both have the
    text cut into tokens in their own way. `sft` learns the text itself. `forward_kl`, `reverse_kl`
    and `jsd` compare whole distributions, so they need one tokenizer on both sides, and either
    `online: true` or rows with the teacher's likeliest tokens (all others are one bucket then).
    The loss is over the completion, the assistant's messages, or a whole document.
    """

    output = "model"

    stage: Literal["train_distill"]
    model: Model = Field(description="the student to start from")
    teacher: Model | None = Field(None, description="the model that it learns from; sft needs none")
    rows: Rows = Field(description="the stage whose rows it is trained on")
    prompt_template: str | None = Field(
        None, description="makes the prompt; null takes the column `prompt`"
    )
    variables: dict[str, Any] = Field({}, description="constants for the template")
    by_task: dict[str, dict[str, Any]] = Field(
        {}, description="constants for the rows of one task, in place of those of `variables`"
    )
    completion_column: str = Field("completion", description="what answers the prompt")
    messages_column: str | None = Field(
        None, description="whole conversations, in place of prompt and completion"
    )
    text_column: str | None = Field(
        None, description="documents, in place of prompt and completion"
    )
    losses: LossWeights = Field(
        LossWeights(alm=1.0, sft=1.0),
        description="the loss's components and their weights: alm, sft, forward_kl, reverse_kl, "
        "jsd; naming any leaves out those that are not named",
    )
    combine: Combine = Field(
        "fixed",
        description="grad_mag: the weights times what brings the components' gradients at the last "
        "decoder layer to one size, anew in each step; with accumulation a forward pass more",
    )
    alm: AlmSettings = Field(AlmSettings(), description="of the loss alm")
    beta: float = Field(0.5, gt=0, lt=1, description="of jsd: how much the teacher is of the mean")
    online: bool = Field(
        False, description="keep the teacher in memory and score each batch; no stored scores"
    )
    max_dropped: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of rows, of which teacher and student have not the same text once it is "
        "normalised, that may be left out",
    )
    if_no_rows: Literal["fail", "keep_model"] = Field(
        "fail", description="keep_model: without rows the model is passed on as it is"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainDistill:
        whole = [n for n in ("messages_column", "text_column") if getattr(self, n) is not None]
        if len(whole) > 1 or (whole and self.prompt_template):
            raise ValueError(
                "give one of messages_column, text_column and prompt_template: each says what a "
                "row is"
            )
        if self.teacher is None and (self.online or self._needs_teacher()):
            asking = "online" if self.online else ", ".join(self._needs_teacher())
            raise ValueError(f"{asking} needs a teacher")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        columns = {"id"}
        if self._whole_column() is not None:
            columns.add(str(self._whole_column()))
        else:
            columns |= {self.completion_column, *([] if self.prompt_template else ["prompt"])}
        if self._needs_teacher() and not self.online:
            columns |= {"teacher_logps", "scored_by"}
            if self.losses.alm is not None and self.alm.debias:
                columns.add("teacher_log_pbs")
        return {self.rows: columns}

    def may_be_empty(self) -> set[str]:
        return {self.rows} if self.if_no_rows == "keep_model" else set()

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        if self.prompt_template is None:
            return {}
        offered = offered_variables(inputs[self.rows], self.variables, self.by_task, "examples")
        return {self.prompt_template: offered}

    def is_seeded(self) -> bool:
        return True

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.training.train import save_untrained, train_and_save

        source = context.model(self.model)
        seed = derive_seed(context.seed, "train_distill")
        if self.if_no_rows == "keep_model" and not len(context.rows(self.rows)):
            context.warn(f"'{self.rows}' has no rows: model '{self.model}' is passed on untrained")
            return save_untrained(self, source, context, seed)
        student, teacher = self._encoders(context, source)
        dataset = self._dataset(context, student, teacher)

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            from llm_distill.distillation.assembly import assembled

            teacher_source = context.model(self.teacher) if self.teacher and self.online else None
            ...

        return train_and_save(self, source, dataset, trainer, context, seed)
