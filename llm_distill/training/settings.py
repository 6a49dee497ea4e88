"""Settings that every training stage has, under TRL's and PEFT's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm_distill.methods.turns import Answers, Thoughts
from llm_distill.stage import Launch, Rows, execution_setting, later_setting
from llm_distill.tracking import Tracker
from llm_distill.training.launch import LaunchSettings, encoded_once, launched, world_size
from llm_distill.training.quantization import QuantizationSettings
from llm_distill.training.steps import StepRows
from llm_distill.training.trl_arguments import TrlConfig, check_together, typed_arguments

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.stage import Context
    from llm_distill.training.data import Encode


class LoraSettings(BaseModel):
    """A low-rank adapter instead of all weights; PEFT's names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(16, ge=1, description="rank")
    lora_alpha: int = Field(32, ge=1, description="the update is scaled by lora_alpha / r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="which layers get an adapter; not lm_head"
    )
    train_embeddings: bool = Field(
        False,
        description="also train the embedding and the output layer, whole: for a model that was "
        "given another tokenizer",
    )
    use_dora: bool = later_setting(
        False, "DoRA (arXiv 2402.09353): also learn the size of each weight column"
    )
    use_rslora: bool = later_setting(
        False, "the update is scaled by lora_alpha / sqrt(r) (arXiv 2312.03732)"
    )
    modules_to_save: tuple[str, ...] = later_setting(
        (), "other layers that are trained whole, by the ends of their names, such as [norm]"
    )
    target_parameters: tuple[str, ...] = later_setting(
        (),
        "parameters outside of linear layers that get an adapter as well, by the ends of their "
        "names, such as a mixture's experts [mlp.experts.gate_up_proj, mlp.experts.down_proj]",
    )

    @field_validator("target_modules")
    @classmethod
    def _not_the_output_layer(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if "lm_head" in ((value,) if isinstance(value, str) else value):
            raise ValueError(
                "no adapter on lm_head: the losses read its weights directly; allowed: all-linear "
                "(every linear layer but it), names of other layers such as [q_proj, v_proj], or a "
                "pattern that does not match it"
            )
        if not value:
            raise ValueError("no layer gets an adapter; all-linear takes every linear layer")
        try:
            re.compile(value if isinstance(value, str) else "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    def why_not_served(self) -> str | None:
        """What of it vLLM does not lay over weights that it serves; None: it lays all of it."""
        asked = {
            "train_embeddings": self.train_embeddings,
            "use_dora": self.use_dora,
            "modules_to_save": self.modules_to_save,
            "target_parameters": self.target_parameters,
        }
        found = [f"peft.{name}" for name, value in asked.items() if value]
        return ", ".join(found) or None


class ThoughtSettings(BaseModel):
    """Which thoughts of the assistant's turns are trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    thoughts: Thoughts = later_setting(
        "train",
        "train: what a turn's reasoning_content says is trained with it; last: only that of the "
        "last turn; drop: none",
    )


class TurnSettings(ThoughtSettings):
    """Which turns of a conversation are trained."""

    answers: Answers = later_setting(
        "all",
        "all of the assistant's turns of a conversation, or the last; one with weight 0 never",
    )


class TrainingSettings(BaseModel):
    """Named as in TRL; what they do is documented there."""

    trl_config: ClassVar[TrlConfig] = "SFTConfig"
    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Fields of that config which this training does not read."""
    model_config = ConfigDict(extra="forbid", frozen=True)

    peft: LoraSettings | None = Field(None, description="train a LoRA adapter; null trains all")
    learning_rate: float = Field(2e-5, gt=0, description="at its highest")
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = Field(
        "cosine", description="how the learning rate falls"
    )
    warmup_steps: float = Field(
        0.0,
        ge=0,
        description="steps until the highest rate; below 1, a share of all steps",
    )
    num_train_epochs: float = Field(1.0, gt=0, description="passes over the rows")
    max_steps: int = Field(
        -1,
        ge=-1,
        description="optimizer steps, instead of the epochs; -1: as many as the epochs take",
    )
    per_device_train_batch_size: int = Field(8, ge=1, description="rows in a forward pass")
    gradient_accumulation_steps: int = Field(
        1,
        ge=1,
        description="forward passes in a step, which so has per_device_train_batch_size times this "
        "many rows, on however many devices",
    )
    train_batch_size: int | None = later_setting(
        None,
        "rows in a step, in place of gradient_accumulation_steps; in passes of at most "
        "per_device_train_batch_size rows",
        ge=1,
    )
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    max_length: int = Field(1024, ge=2, description="longer rows, in tokens, are dropped")
    router_aux_loss_coef: float | None = later_setting(
        None,
        "of a mixture of experts: weight of the loss that spreads tokens over the experts; null: "
        "as the model's config says, 0: none",
        ge=0,
    )
    bf16: bool = Field(
        False, description="compute in bfloat16, where the GPU or CPU has instructions for it"
    )
    trainer_arguments: dict[str, Any] = later_setting(
        {},
        "any other field of TRL's SFTConfig, DPOConfig or KTOConfig, such as optim, adam_beta2 or "
        "neftune_noise_alpha; checked by TRL's own class",
    )
    gradient_checkpointing: bool = execution_setting(False, "less memory for more time")
    logging_steps: int = execution_setting(10, "steps between points of the loss history", ge=1)
    save_steps: int = execution_setting(100, "steps between checkpoints to resume from", ge=1)
    save_total_limit: int = execution_setting(2, "checkpoints that are kept, the newest", ge=1)
    on_collapse: Literal["stop", "warn", "ignore"] = execution_setting(
        "stop",
        "some prompts of the rows are answered before and after the training; what happens if the "
        "model no longer writes as one would; ignore: it is not asked",
    )
    report_to: Tracker = execution_setting(
        "none", "where curves are sent as well; unless set, the pipeline's own report_to"
    )

    @field_validator("max_steps")
    @classmethod
    def _trains(cls, value: int) -> int:
        # transformers' Trainer makes no step then, and says nothing.
        if value == 0:
            raise ValueError(
                "expected 1 or more, or -1 for as many as num_train_epochs takes; a stage that "
                "trains nothing is left out of the file"
            )
        return value

    @field_validator("trainer_arguments")
    @classmethod
    def _are_fields_of_trls(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            return value
        return typed_arguments(cls.trl_config, value, cls.model_fields, cls.without_effect)

    @model_validator(mode="after")
    def _trl_takes_its_arguments(self) -> Self:
        if self.trainer_arguments:
            check_together(self.trl_config, self.trainer_arguments, self.trl_settings())
        return self

    @model_validator(mode="after")
    def _one_says_how_many_rows_a_step_has(self) -> Self:
        if self.train_batch_size is not None and self.gradient_accumulation_steps > 1:
            raise ValueError(
                "train_batch_size says how many rows a step has: leave gradient_accumulation_steps "
                "out"
            )
        return self

    def step_rows(self) -> StepRows:
        """The rows of an optimizer step, as one process would go through them."""
        size, together = self.per_device_train_batch_size, self.compares_rows()
        if self.train_batch_size is None:
            return StepRows(size, self.gradient_accumulation_steps, together)
        return StepRows(self.train_batch_size, 1, together).within(size)

    def compares_rows(self) -> bool:
        """Whether the loss of a forward pass is not a mean over its rows or tokens alone."""
        return False

    def trl_settings(self) -> dict[str, Any]:
        """Settings of this training alone that are fields of TRL's config."""
        return {}

    def trains_weights(self) -> bool:
        """Whether any of the model's own weights change, and not only an adapter's."""
        if self.peft is None:
            return True
        return self.peft.train_embeddings or bool(self.peft.modules_to_save)

    def why_no_adapter(self) -> str | None:
        """See `Stage.why_no_adapter`."""
        return "it trains all weights" if self.peft is None else self.peft.why_not_served()


class LaunchedSettings(TrainingSettings):
    """Of a stage that trains a model, which several processes may do together."""

    launch: LaunchSettings = execution_setting(
        LaunchSettings(), "the processes that share the rows of each step, and how"
    )
    quantization: QuantizationSettings | None = later_setting(
        None, "keep the base under the adapter in 4 or 8 bits (bitsandbytes); null: as it is"
    )

    @model_validator(mode="after")
    def _processes_can_share_a_step(self) -> Self:
        rows, wanted = self.step_rows(), self.launch.stated()
        if wanted is None and self.launch.machines > 1:
            wanted = self.launch.machines
            if self.depends_on_processes():
                raise ValueError(
                    "launch.processes: say how many, as the loss is another with another number"
                )
        if wanted is not None and wanted not in rows.processes():
            what = "pass (per_device_train_batch_size)" if rows.together else "step"
            n = rows.in_pass if rows.together else rows.in_step
            raise ValueError(
                f"launch.processes: {wanted} cannot share the {n} rows of a {what} evenly; "
                f"allowed: {', '.join(map(str, rows.processes()))}; or change how many rows it has"
            )
        return self

    @model_validator(mode="after")
    def _few_bits_lie_still(self) -> Self:
        if self.quantization is None:
            return self
        if self.peft is None:
            raise ValueError(
                "quantization needs peft: weights of so few bits cannot be trained, an adapter on "
                "them can"
            )
        if self.launch.is_sharded():
            raise ValueError(
                "quantization: a base in few bits is whole on each device; launch.strategy: ddp"
            )
        return self

    def missing(self) -> Iterable[tuple[str, str]]:
        if self.quantization is not None and find_spec("bitsandbytes") is None:
            yield "quantization", "bitsandbytes is not installed: pip install 'llm-distill[qlora]'"
        yield from [(f"launch.{name}", message) for name, message in self.launch.missing()]

    def depends_on_processes(self) -> bool:
        """Whether several processes train something else than one."""
        return False

    def further_settings(self) -> dict[str, Any]:
        n = self.launch.stated()
        return {"launch.processes": n} if n not in (None, 1) and self.depends_on_processes() else {}

    def launched(self) -> Launch | None:
        if self.launch.stated() is None and self.depends_on_processes():
            return None
        return launched(self.launch, self.step_rows())


class HeldOutSettings(LaunchedSettings):
    """Of a training whose loss on other rows is measured on the way."""

    eval_rows: Rows | None = later_setting(
        None, "the stage whose rows are held out: the loss on them is measured on the way"
    )
    eval_steps: int = later_setting(50, "steps between two measurements on eval_rows", ge=1)
    load_best_model_at_end: bool = later_setting(
        False, "the result is the model with the lowest loss on eval_rows, and not the last"
    )

    @model_validator(mode="after")
    def _there_are_rows_to_choose_by(self) -> Self:
        fields = HeldOutSettings.model_fields
        names = ("eval_steps", "load_best_model_at_end")
        given = [name for name in names if getattr(self, name) != fields[name].default]
        if given and self.eval_rows is None:
            raise ValueError(f"{' and '.join(given)} needs eval_rows")
        if self.eval_rows is not None and self.eval_rows == getattr(self, "rows", None):
            raise ValueError("eval_rows are the rows that are trained on; hold others out (split)")
        return self

    def all_rows(self) -> list[str]:
        """The stages whose rows are read: those that are trained, and those held out."""
        rows: str = getattr(self, "rows")  # noqa: B009
        return [rows, *filter(None, [self.eval_rows])]

    def held_out(self, encode: Callable[[str], Dataset], folder: Path) -> Dataset | None:
        """The rows of `eval_rows` as `encode` gives them, by the stage's name; None without."""
        held = self.eval_rows
        return None if held is None else encoded_once(lambda: encode(held), folder, "held out")

    def evaluation(self) -> dict[str, Any]:
        """TRL's arguments for it."""
        if self.eval_rows is None:
            return {}
        found = {
            "eval_strategy": "steps",
            "eval_steps": self.eval_steps,
            "per_device_eval_batch_size": self.step_rows().on(world_size()).in_pass,
        }
        if self.load_best_model_at_end:
            found |= {
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_loss",
                "greater_is_better": False,
                "save_steps": self.eval_steps,
            }
        return found


class SampledSettings(HeldOutSettings):
    """Of a training whose rows may be drawn in proportion to a weight."""

    sample_weight_column: str | None = later_setting(
        None,
        "rows are drawn with replacement, in proportion to this column, as many in each epoch as "
        "there are; a row of weight 0 never is. null: each row once an epoch",
    )

    @model_validator(mode="after")
    def _one_says_in_which_order(self) -> Self:
        if self.sample_weight_column and "train_sampling_strategy" in self.trainer_arguments:
            raise ValueError(
                "trainer_arguments: train_sampling_strategy and sample_weight_column both say in "
                "which order rows come; leave one of them out"
            )
        return self

    def sampled(self) -> dict[str, set[str]]:
        """By stage, the column that its rows need for it."""
        rows: str = getattr(self, "rows")  # noqa: B009
        return {rows: {self.sample_weight_column}} if self.sample_weight_column else {}

    def with_sample_weight(self, encode: Encode, name: str) -> Encode:
        """`encode`, which also gives each example of the rows that are trained the row's weight."""
        from llm_distill.training.data import with_sample_weight

        if self.sample_weight_column is None or name != getattr(self, "rows"):  # noqa: B009
            return encode
        return with_sample_weight(encode, self.sample_weight_column)


class PreferenceSettings(HeldOutSettings, ThoughtSettings):
    """What DPO and KTO share."""

    peft: LoraSettings | None = Field(
        LoraSettings(), description="train a LoRA adapter; null trains all, with two models"
    )
    learning_rate: float = Field(
        1e-5,
        gt=0,
        description="the peak; 1e-6 is usual if all weights are trained",
    )


def trainer_arguments(settings: TrainingSettings, context: Context, seed: int) -> dict[str, Any]:
    """What TRL's configs share, for one of the processes; checkpoints lie in `work_dir`."""
    import torch

    cuda = torch.cuda.is_available()
    bf16 = settings.bf16 and has_bfloat16()
    if settings.bf16 and not bf16:
        context.warn(
            f"bf16 is left off: this {'GPU' if cuda else 'CPU'} has no instructions for it, and "
            "would be slower"
        )
    ours = {"peft", "on_collapse", "trainer_arguments", "train_batch_size"}
    rows = settings.step_rows().on(world_size())
    own = settings.model_dump(include=TrainingSettings.model_fields.keys() - ours)
    if isinstance(settings, HeldOutSettings):
        own |= settings.evaluation()
    return {
        **own,
        "per_device_train_batch_size": rows.in_pass,
        "gradient_accumulation_steps": rows.passes,
        "project": context.tracked.project,  # trackio's; the others have variables for it
        "run_name": context.tracked.name,
        "output_dir": str(Path(context.work_dir) / "checkpoints"),
        "save_strategy": "steps",
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "bf16": bf16,
        "disable_tqdm": True,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it would show another figure in place of NaN
        "include_num_input_tokens_seen": "non_padding",
        "push_to_hub": False,
        "trust_remote_code": False,
        # The processes that share a training have met already.
        **({"accelerator_config": {"use_configured_state": True}} if world_size() > 1 else {}),
        **settings.trainer_arguments,
    }


def has_bfloat16() -> bool:
    """Whether the GPU, or else the CPU, multiplies in bfloat16 and does not only emulate it."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # none in torch 2.6
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
