"""What a training on the student's own texts is told. No heavy import here."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from llm_distill.distillation.losses.loss import Needs
from llm_distill.stage import execution_setting, later_setting


class RolloutSettings(BaseModel):
    """The student writes completions of its own in each step, and the teacher reads them.

    alm, forward_kl, reverse_kl and jsd are then of these texts, and of the rows' own in the rows
    that keep them. sft is of the rows' own alone, opd of the student's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="of the rows of each step, how many the student answers itself (GKD's λ); the "
        "others keep their completion; with 1 rows need a prompt alone",
    )
    temperature: float = Field(
        1.0, ge=0, description="1 draws from the student as it is; 0 is greedy"
    )
    max_tokens: int = Field(256, ge=1, description="a text is cut after this many tokens")
    stop: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        (), description="texts that end a completion; the end token is trained in their place"
    )
    truncated: Literal["open", "drop"] = Field(
        "open", description="a text that max_tokens cut is left without an end, or left out"
    )
    max_truncated: float = execution_setting(
        0.5,
        "the training stops when a larger share of the texts than this is cut by max_tokens, and "
        "twice as large a share as at first; 1: never",
        gt=0,
        le=1,
    )
    batch_size: int = execution_setting(
        64,
        "texts that are written at once on a device; with writer: engine its max_concurrency says",
        ge=1,
    )
    writer: Literal["training", "engine"] = later_setting(
        "training",
        "training: the process that trains writes, with the weights as they are. engine: the "
        "student's engine, a vLLM server (engine.adapters: hot_load), into which the adapter is "
        "loaded as it is then",
    )
    reload_every: int = later_setting(
        1,
        "with writer: engine, steps that are written with one adapter before the next is loaded; "
        "opd weighs tokens of an older student by clip_ratio",
        ge=1,
    )

    @field_validator("share")
    @classmethod
    def _some(cls, value: float) -> float:
        if value == 0:
            raise ValueError(
                "expected above 0 and at most 1; to train on the rows' own completions alone leave "
                "rollouts out"
            )
        return value

    @model_validator(mode="after")
    def _is_loaded_somewhere(self) -> Self:
        if self.reload_every > 1 and self.writer == "training":
            raise ValueError(
                "reload_every is of an engine that writes; set writer: engine, or leave it out"
            )
        return self

    def is_planned(self, place: int) -> bool:
        """Whether the student answers the row at this place of the training.

        place: counted from 0 over all steps and epochs, in the order in which rows are read. So
        any stretch of n rows has share · n of them, to within one, and each epoch others.
        """
        share = Fraction(str(self.share))
        return floor(share * (place + 1)) > floor(share * place)


def check_rollouts(rollouts: RolloutSettings, stage: Any) -> None:
    """stage: a `train_distill`.

    Raises:
        ValueError: the stage's other settings do not go with texts that the student writes.
    """
    if not stage.from_teacher():
        raise ValueError(
            "rollouts needs a loss from the teacher, such as losses: {alm: 1.0}: sft would learn "
            "what the student writes anyway"
        )
    if stage.teachers is not None:
        raise ValueError(
            "rollouts are read by one teacher in each step, and teachers are those of scored rows; "
            "name one teacher, with online: true, or online: engine for one on a server"
        )
    if not stage.online:
        raise ValueError(
            "rollouts are not written before the training, so scores that rows have stored are not "
            "theirs: set online: true, or online: engine for a teacher on a server"
        )
    if rollouts.share == 1 and "sft" in stage.losses.weights():
        raise ValueError(
            "losses.sft is of the rows' own completions, and with rollouts.share: 1 no row keeps "
            "its own; lower share, or leave sft out, as in losses: {alm: 1.0}"
        )
    if "opd" in stage.losses.weights():
        _check_sampled(rollouts, stage)
    if stage.text_column is not None:
        raise ValueError("rollouts answer a prompt, and text_column has none")
    if stage.messages_column is not None and stage.answers != "last":
        raise ValueError("rollouts answer the last turn of a conversation: set answers: last")
    if rollouts.max_tokens >= stage.max_length:
        raise ValueError(
            f"rollouts.max_tokens: {rollouts.max_tokens} leaves no token of max_length: "
            f"{stage.max_length} for the prompt; lower it, or raise max_length"
        )
    if rollouts.writer == "engine":
        _check_writer(rollouts, stage)
    elif stage.launch.is_sharded():
        raise ValueError(
            "rollouts are written by each process at its own pace, and launch.strategy divides the "
            "weights that they need; use ddp, or rollouts.writer: engine"
        )


def _check_writer(rollouts: RolloutSettings, stage: Any) -> None:
    """Of texts that the student's engine writes."""
    if stage.peft is None:
        raise ValueError(
            "rollouts.writer: engine loads the student's adapter into its server, and without peft "
            "there is none; set peft: {r: 16}, or leave writer out"
        )
    odd = stage.peft.why_not_served()
    if odd is not None:
        raise ValueError(
            f"rollouts.writer: engine: vLLM does not lay {odd} over the weights that it serves; "
            "leave it out, or writer"
        )
    if stage.launch.strategy not in ("ddp", "fsdp2"):
        raise ValueError(
            "rollouts.writer: engine gathers the adapter of ddp and fsdp2; with another "
            "launch.strategy take rounds of generate and score_likelihood"
        )
    saves = "eval_steps" if stage.load_best_model_at_end else "save_steps"
    if getattr(stage, saves) % rollouts.reload_every:
        raise ValueError(
            f"rollouts.reload_every: {rollouts.reload_every} does not divide {saves}: "
            f"{getattr(stage, saves)}: a resumed training would load another adapter than one that "
            "was not interrupted; change either"
        )


def check_engine(stage: Any) -> None:
    """stage: a `train_distill` whose teacher is asked by its engine in each step.

    Raises:
        ValueError: its other settings need more than an engine gives, or ask in vain.
    """
    if stage.rollouts is None:
        raise ValueError(
            "online: engine is for texts that are new in each step (rollouts); these rows have "
            "theirs: let score_likelihood ask once (scorer: engine), and leave online out"
        )
    whole = stage.losses.needing(Needs.DISTRIBUTIONS | Needs.SPANS)
    if whole:
        raise ValueError(
            f"losses: {', '.join(whole)} compares the teacher's whole distributions, and online: "
            "engine gives one log-probability a token; take alm or opd, or online: true with the "
            "teacher in memory"
        )
    if stage.debiases():
        raise ValueError(
            "alm.debias needs how likely a word ends after a token, which online: engine does not "
            "give; set alm.debias: false"
        )
    if stage.watch_hacking is not None:
        raise ValueError(
            "watch_hacking measures with a teacher in memory or with stored scores, and online: "
            "engine has neither; use online: true, or rounds of score_likelihood (scorer: engine)"
        )


def _check_sampled(rollouts: RolloutSettings, stage: Any) -> None:
    if rollouts.share < 1:
        raise ValueError(
            "losses.opd is of texts that the student wrote, and with rollouts.share: "
            f"{rollouts.share:g} rows keep their own; set share: 1, or take alm or reverse_kl"
        )
    if rollouts.temperature != 1 or rollouts.stop:
        other = "stop" if rollouts.stop else f"temperature: {rollouts.temperature:g}"
        raise ValueError(
            "losses.opd is of tokens as the student samples them, which with "
            f"rollouts.{other} they are not; leave it out, or take alm or reverse_kl"
        )
    if stage.opd.reward_scale != 1:
        raise ValueError(
            "opd.reward_scale compares with the policy that wrote the text, which with rollouts is "
            "the student itself, of this step or a few before; leave it out"
        )
