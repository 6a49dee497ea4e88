"""On-policy distillation: reverse KL on the tokens that the student sampled, chunk by chunk.

The loss's value is log q − log p a token of the texts as they were written; its gradient is that of
a policy whose tokens have the teacher's opinion as advantage. See `methods.sampled_reverse_kl`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.distillation.losses.loss import MeanOf, Needs, TokenLoss, TokenReading, Watch
from llm_distill.errors import DataError
from llm_distill.stage import later_setting

if TYPE_CHECKING:
    import torch

    from llm_distill.distillation.losses.loss import Batch

LEAST_SHARE = 0.5
"""Of samples that are effective; with fewer a few tokens decide what is learnt."""
MOST_MOVED = 0.5
"""Nats a token from the policy that wrote the rows. Measured with the bundled models, 12 steps over
128 rows: at 0.2 the reverse KL of texts written afterwards had fallen (1.24 to 0.75), at 0.9 it had
risen (to 2.12) while that of the rows fell to 0.39."""
MOST_DIFFERENT = 0.1
"""Nats a token between the trainer and what wrote the rows, before the first step: float32 and 16
bits differ by some hundredths."""


class OpdSettings(BaseModel):
    """Reverse KL on sampled tokens, of texts that the student wrote (`keep_tokens`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    returns: Literal["chunk", "sum", "mean"] = Field(
        "chunk",
        description="what a token answers for: its own chunk (with one tokenizer: itself); sum: "
        "also all that follows, which is the whole text's reverse KL, with far more variance; "
        "mean: its own chunk and the mean a token of what follows, so that a long text is not "
        "worse for being long (MiniLLM, arXiv 2306.08543)",
    )
    credit: Literal["sampled", "spread"] = Field(
        "sampled",
        description="within a chunk each token has all of its reward, or a share of it by how "
        "unlikely it was (arXiv 2606.09456): less variance, more bias; only with returns: chunk",
    )
    clip_ratio: tuple[float, float] | None = Field(
        (0.8, 1.28),
        description="a token counts by its likelihood now over that when it was sampled "
        "(rollout_logps), held between these; null: 1 for all",
    )
    clip_advantage: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="advantages are held between this and its negative, in nats; it also hides "
        "tokens that the teacher thinks impossible, as under a wrong template",
    )
    weights: Literal["none", "iw"] = Field(
        "none",
        description="iw: a text's early tokens count more, from 1.5 down to 1 (IW-OPD, arXiv "
        "2606.22600)",
    )
    reward_scale: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="λ: above 1 it aims beyond the teacher, away from the policy that wrote the "
        "text (ExOPD, arXiv 2602.12125; 1.25 there); below 1 it stays closer to that policy",
    )

    first_tokens: int | None = later_setting(
        None,
        "only a text's first tokens are learnt, as many as this; what they answer for (returns) is "
        "all that follows them, as without it; null: all",
        ge=1,
    )

    @model_validator(mode="after")
    def _can_be(self) -> OpdSettings:
        if self.credit == "spread" and self.returns != "chunk":
            raise ValueError(
                f"credit: spread divides a chunk's own reward, and with returns: {self.returns} a "
                "token answers for more than that; use credit: sampled"
            )
        low, high = self.clip_ratio or (1.0, 1.0)
        if not (0 <= low <= 1 <= high < math.inf):
            raise ValueError("clip_ratio: expected [low, high] around 1, such as [0.8, 1.28]")
        return self


def check_writers(n_unknown: int, n_rows: int, settings: OpdSettings) -> str | None:
    """What to say where of some rows nobody knows how likely they were when they were sampled.

    Raises:
        DataError: a setting needs it.
    """
    if not n_unknown:
        return None
    lack = f"{n_unknown} of {n_rows} rows have no rollout_logps (generate with keep_tokens)"
    if settings.reward_scale != 1.0:
        raise DataError(f"opd.reward_scale compares with the policy that wrote the text: {lack}")
    if settings.clip_ratio is None:
        return None
    return (
        f"losses.opd: {lack}: their tokens count as if this student had just written them, and how "
        "far it has moved since is not known"
    )


def _summed(student: TokenReading, batch: Batch, settings: OpdSettings) -> torch.Tensor:
    import torch

    from llm_distill.methods import sampled_reverse_kl as kl

    with torch.no_grad():
        factors, rewards = _factors(student.logps.detach(), batch, settings)
        is_learnt = _is_learnt(batch)
        factors = torch.where(is_learnt, factors, 0.0)
        rewards = rewards[kl.begins_in(is_learnt, batch["chunk_of"], len(rewards))]
    policy = -(factors * student.logps.to(factors.dtype)).sum()
    return -rewards.sum() + (policy - policy.detach())


def _is_learnt(batch: Batch) -> torch.Tensor:
    """Bool [N]: the token is one of those that the loss is of."""
    import torch

    found = torch.zeros_like(batch["chunk_of"], dtype=torch.bool)
    return found.index_fill(0, batch["sampled"], True)


def _factors(
    logps: torch.Tensor, batch: Batch, settings: OpdSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each token's log-probability is multiplied by, [N], and r = C_T − C_S, [C]."""
    from llm_distill.methods import sampled_reverse_kl as kl
    from llm_distill.methods.chunk_loss import chunk_sums

    teacher, chunk_of = batch["chunk_logps"].float(), batch["chunk_of"]
    logps = logps.float()
    writer = batch["rollout_logps"]
    row_of = batch["positions"] // batch["input_ids"].shape[1]
    own = chunk_sums(logps, chunk_of, len(teacher))
    scaled = None
    if settings.reward_scale != 1.0:
        scaled = chunk_sums(writer.nan_to_num(0.0), chunk_of, len(teacher))
    rewards = kl.chunk_rewards(teacher, own, scaled, settings.reward_scale)
    if settings.credit == "spread":
        advantages = kl.spread_over_tokens(rewards, logps, own, chunk_of)
    elif settings.returns in ("sum", "mean"):
        answers = kl.first_tokens_answer(chunk_of, batch["positions"], batch["chunk_is_token"])
        row_of_chunk = kl.rows_of_chunks(row_of, chunk_of, len(teacher))
        if settings.returns == "sum":
            values = kl.returns(rewards, row_of_chunk)
        else:
            sizes = kl.sizes_of_chunks(chunk_of, len(teacher))
            values = kl.mean_returns(rewards, row_of_chunk, sizes)
        advantages = kl.token_advantages(values, chunk_of, answers)
    else:
        advantages = kl.token_advantages(rewards, chunk_of)
    if settings.clip_advantage is not None:
        advantages = advantages.clamp(-settings.clip_advantage, settings.clip_advantage)
    if settings.weights == "iw":
        advantages = advantages * kl.position_weights(advantages, row_of)
    if settings.clip_ratio is not None:
        advantages = advantages * kl.importance_ratios(logps, writer).clamp(*settings.clip_ratio)
    return advantages, teacher - own


def _watched(student: TokenReading, batch: Batch, settings: OpdSettings) -> dict[str, torch.Tensor]:
    from llm_distill.methods.sampled_reverse_kl import importance_ratios

    logps, writer = student.logps.detach().float(), batch["rollout_logps"]
    is_known = ~writer.isnan() & (batch["chunk_of"] >= 0) & _is_learnt(batch)
    ratios = importance_ratios(logps, writer)[is_known].double()
    low, high = settings.clip_ratio or (0.0, math.inf)
    return {
        "n": is_known.sum().double(),
        "ratios": ratios.sum(),
        "squares": ratios.square().sum(),
        "clipped": ((ratios < low) | (ratios > high)).sum().double(),
        "apart": (logps - writer)[is_known].abs().sum().double(),
    }


def _figures(sums: Mapping[str, float]) -> dict[str, float]:
    """opd_effective: (Σρ)² / (n Σρ²). opd_clipped: the share of ρ beyond clip_ratio. opd_apart:
    the mean of |log ρ|, in nats.
    """
    from llm_distill.methods.sampled_reverse_kl import effective_share

    n = sums["n"]
    if not n:
        return {}
    return {
        "opd_effective": effective_share(sums["ratios"], sums["squares"], n),
        "opd_clipped": sums["clipped"] / n,
        "opd_apart": sums["apart"] / n,
    }


def _warnings(history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    apart = next((p["opd_apart_at_start"] for p in history if "opd_apart_at_start" in p), 0.0)
    if apart > MOST_DIFFERENT:
        yield (
            f"losses.opd: before the first step the student's log-probabilities are {apart:.2f} "
            "nats a token from rollout_logps: the rows were written by another model, in another "
            "precision (a server's 16 bits), or after another prompt (written_by, prompt_template)"
        )
    points = [p for p in history if "opd_effective" in p]
    late = points[len(points) // 2 :]  # means: one odd token can halve the share of a batch
    if not late:
        return
    share, moved = (fmean(p[name] for p in late) for name in ("opd_effective", "opd_apart"))
    if share < LEAST_SHARE or moved > MOST_MOVED:
        yield (
            f"losses.opd: in the second half of the training {share:.0%} of the sampled tokens are "
            f"effective, and the student is {moved:.2f} nats a token away from the policy that "
            "wrote them: what it learns there need not hold for what it would write now; lower "
            "learning_rate, train for fewer steps on these rows, or let the student write anew"
        )


OPD = TokenLoss(
    "opd",
    Needs.CHUNKS | Needs.SAMPLED,
    MeanOf.SAMPLED,
    _summed,
    Watch(_watched, _figures, _warnings),
)
