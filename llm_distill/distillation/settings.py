"""What a distillation is told: which losses, how they are combined, and their own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.distillation.losses.alm import AlmSettings
from llm_distill.distillation.losses.known import LOSSES
from llm_distill.distillation.losses.loss import DistributionLoss, Loss, Needs, SpanLoss
from llm_distill.distillation.losses.opd import OpdSettings
from llm_distill.distillation.losses.simct import SimctSettings
from llm_distill.stage import later_setting

if TYPE_CHECKING:
    from llm_distill.distillation.losses.loss import Divergences, SpanSums


def _later_weight(description: str) -> Any:
    return later_setting(None, description, gt=0, allow_inf_nan=False)


class LossWeights(BaseModel):
    """The components of the loss and how much each counts; one that is not named is left out.

    alm: the chunks' likelihoods, across tokenizers. sft: the cross entropy of the rows' tokens.
    forward_kl, reverse_kl, jsd: token by token, for models that share a tokenizer.
    opd: reverse KL on the tokens that the student sampled, across tokenizers.
    uld, gold, p_kl, h_kl, simct: whole distributions across tokenizers, to be compared with alm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alm: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of the chunks' likelihoods, across tokenizers"
    )
    sft: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of the cross entropy of the rows' tokens"
    )
    forward_kl: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="token by token, for models that share a tokenizer; likewise the next two",
    )
    reverse_kl: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="the other way around"
    )
    jsd: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="the generalized Jensen-Shannon divergence"
    )
    opd: float | None = _later_weight(
        "of the reverse KL on tokens that the student sampled, across tokenizers"
    )
    uld: float | None = _later_weight(
        "of whole distributions, sorted, across tokenizers; this and the next need online: true"
    )
    gold: float | None = _later_weight(
        "GOLD's hybrid: tokens that both have as such, others as uld"
    )
    p_kl: float | None = _later_weight("X-Token's P-KL: projected on the teacher's vocabulary")
    h_kl: float | None = _later_weight("X-Token's H-KL: near matches as such, others as uld")
    simct: float | None = _later_weight("SimCT: shared tokens, and a longer piece as one more")

    @model_validator(mode="after")
    def _one_at_least(self) -> LossWeights:
        if not self.weights():
            raise ValueError("name one loss at least, such as {alm: 1.0, sft: 1.0}")
        return self

    def weights(self) -> dict[str, float]:
        """Those that are named, in a fixed order."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: weight for name, weight in named.items() if weight is not None}

    def named(self) -> list[Loss]:
        """Those that are named, in the order of `weights`."""
        return [LOSSES[name] for name in self.weights()]

    def needing(self, what: Needs) -> list[str]:
        """The names of those that need this (or one of these) of the teacher."""
        return [loss.name for loss in self.named() if loss.needs & what]


class DistillSettings(BaseModel):
    """What the loss is made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    losses: LossWeights = Field(
        LossWeights(alm=1.0, sft=1.0),
        description="the loss's components and their weights: alm, sft, forward_kl, reverse_kl, "
        "jsd, opd, uld, gold, p_kl, h_kl, simct; what is not named is left out",
    )
    combine: Literal["fixed", "grad_mag"] = Field(
        "fixed",
        description="grad_mag: the weights times what brings the components' gradients at the last "
        "decoder layer to one size, found again in each step; with accumulation this takes one "
        "more forward pass",
    )
    alm: AlmSettings = Field(AlmSettings(), description="of the loss alm")
    beta: float = Field(
        0.5, gt=0, lt=1, description="of jsd and gold: the teacher's share in the mixture"
    )
    simct: SimctSettings = later_setting(SimctSettings(), "of the loss simct")

    opd: OpdSettings = later_setting(OpdSettings(), "of the loss opd")

    @model_validator(mode="after")
    def _chunks_are_as_cut(self) -> Self:
        if self.losses.opd is not None and self.debiases():
            raise ValueError(
                "losses.opd takes chunks as the texts are cut, and alm.debias changes them; set "
                "alm.debias: false"
            )
        return self

    @property
    def jsd(self) -> float:
        """The setting of the loss jsd, which is `beta` in pipelines."""
        return self.beta

    @property
    def gold(self) -> float:
        """Likewise of the loss gold."""
        return self.beta

    def of(self, loss: Loss) -> Any:
        """The loss's own settings, which stand under its name; None where it has none."""
        return getattr(self, loss.name, None)

    def divergences(self) -> Divergences:
        """The losses from whole distributions, each with its settings already given."""
        losses = self.losses.named()
        found = [loss for loss in losses if isinstance(loss, DistributionLoss)]
        return {loss.name: loss.with_settings(self.of(loss)) for loss in found}

    def span_losses(self) -> SpanSums:
        """The losses from distributions over spans, likewise."""
        losses = self.losses.named()
        found = [loss for loss in losses if isinstance(loss, SpanLoss)]
        return {loss.name: loss.with_settings(self.of(loss)) for loss in found}

    def from_teacher(self) -> list[str]:
        """The losses that need a teacher."""
        return [loss.name for loss in self.losses.named() if loss.needs]

    def comparing_tokens(self) -> list[str]:
        """The losses that need one tokenizer on both sides."""
        from llm_distill.distillation.losses.loss import Needs

        return self.losses.needing(Needs.DISTRIBUTIONS)

    def debiases(self) -> bool:
        """Whether log p(boundary) is needed."""
        return self.losses.alm is not None and self.alm.debias

    def chunking(self) -> AlmSettings:
        """How chunks are compared, by whichever loss."""
        return self.alm if self.debiases() else self.alm.model_copy(update={"debias": False})
