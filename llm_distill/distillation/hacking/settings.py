"""How a distillation is watched for teacher hacking. No heavy import here."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.stage import Model, Rows, execution_setting

SCORES = {"teacher_logps", "scored_by", "scored_text"}
TOP = {"teacher_top_ids", "teacher_top_logps"}


class WatchSettings(BaseModel):
    """On held-out texts, how far the student is from its teacher (proxy) and an oracle (golden).

    The teacher is the one in memory with `online`; without it the rows have its scores: of
    `score_likelihood`, with `top_k` unless `distance` is alm. An oracle is in memory, and has the
    student's tokenizer unless `distance` is alm; or it is texts, `golden_rows`, of whatever wrote
    them, and golden is the student's cross entropy of these in nats a token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Rows = Field(description="the stage whose prompts and texts are held out")
    golden: Model | None = Field(
        None, description="the oracle, kept in memory: golden is the student's distance from it"
    )
    golden_rows: Rows | None = Field(
        None, description="instead: texts of the oracle, of which golden is the cross entropy"
    )
    every: int = Field(50, ge=1, description="steps between two measurements")
    distance: Literal["forward_kl", "reverse_kl", "jsd", "alm"] = Field(
        "forward_kl",
        description="of teacher and student, a token; the other two divergences are measured with "
        "the chosen one. alm: the loss of that name, for models with different tokenizers",
    )
    on_hacking: Literal["warn", "stop"] = execution_setting(
        "warn", "what happens where it is found; stop: the training fails at that step"
    )

    @model_validator(mode="after")
    def _one_oracle(self) -> Self:
        if self.golden is not None and self.golden_rows is not None:
            raise ValueError(
                "golden and golden_rows exclude each other: an oracle is a model or its texts"
            )
        return self

    @property
    def losses(self) -> tuple[str, ...]:
        """Those that are measured."""
        return ("alm",) if self.distance == "alm" else ("forward_kl", "reverse_kl", "jsd")

    def columns_of_teacher(self, *, debiases: bool) -> set[str]:
        """What `rows` must have where the teacher is not in memory. debiases: as the loss alm."""
        if self.distance != "alm":
            return SCORES | TOP
        return SCORES | ({"teacher_log_pbs"} if debiases else set())


def mixed_up(distance: str, name: str, student: str, how: str) -> str:
    """What is said where tokens are compared that are not the same. how: they differ, in words."""
    return (
        f"watch_hacking.distance: {distance} compares distributions over tokens, and the "
        f"tokenizers of '{name}' and '{student}' differ: {how}; take distance: alm, or as an "
        "oracle its texts (golden_rows)"
    )


def check_watch(watch: WatchSettings, stage: Any) -> None:
    """stage: a `train_distill`.

    Raises:
        ValueError: its other settings leave nothing to watch.
    """
    if stage.teacher is None:
        several = ", and teachers are several" if stage.teachers is not None else ""
        raise ValueError(
            f"watch_hacking needs a teacher: it measures the distance from it{several}"
        )
    if watch.distance == "alm" and stage.losses.alm is None:
        raise ValueError(
            "watch_hacking.distance: alm is the loss alm of other rows, which losses does not name"
        )
    if watch.rows == stage.rows:
        raise ValueError(
            "watch_hacking.rows are the rows that are trained on, whose distance falls by learning "
            "them by heart; hold others out (split)"
        )
    if watch.golden_rows == stage.rows:
        raise ValueError("watch_hacking.golden_rows are the rows that are trained on")
