"""SimCT (arXiv 2605.07711): the tokens that both sides have, and each longer span as one more.

What may follow a place is then the same list on both sides: the M shared tokens, and the text that
does follow, if it is not one of them. Scores are made a distribution, and reverse KL compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.distillation.losses.loss import SpanLoss

if TYPE_CHECKING:
    import torch

    from llm_distill.methods.shared_tokens import SharedTokens
    from llm_distill.methods.span_distributions import Side


class SimctSettings(BaseModel):
    """SimCT (arXiv 2605.07711)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scores: Literal["logps", "logits"] = Field(
        "logps",
        description="what is averaged over a span's tokens: log-probabilities, or logits as in the "
        "released code; logits have no zero of their own",
    )


def _summed(
    teacher: Side, student: Side, shared: SharedTokens, settings: SimctSettings
) -> torch.Tensor:
    from llm_distill.distillation.losses.shared_vocabulary import kl

    are_tokens = (teacher.sizes == 1) & (student.sizes == 1)
    firsts = student.targets[student.first], teacher.targets[teacher.first]
    is_span = ~(are_tokens & shared.same.holds(*firsts))

    def scores(side: Side, tokens: torch.Tensor) -> torch.Tensor:
        import torch

        values = side.logps if settings.scores == "logps" else side.logits
        own = side.means(side.chosen(values))
        own = torch.where(is_span, own, -torch.inf)
        return torch.cat([values[side.first][:, tokens], own[:, None]], 1).log_softmax(1)

    return kl(scores(student, shared.same.student), scores(teacher, shared.same.teacher))


SIMCT = SpanLoss("simct", _summed)
