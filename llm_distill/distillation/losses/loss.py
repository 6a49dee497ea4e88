"""What a loss is: its name, what it needs of the teacher, what it is a mean of, and its sum.

To add a loss:

1. Write it in a file of its own beside this one, as a `TokenLoss` (from the likelihoods of the
   rows' tokens), a `DistributionLoss` (from whole next-token distributions of one vocabulary) or a
   `SpanLoss` (from those of two vocabularies over the same pieces of text).
2. Name it in `known.LOSSES`.
3. Give it a weight of the same name in `settings.LossWeights`. Declare it with
   `stage.later_setting`: a plain field would change the fingerprint of every `train_distill`, and
   users' students would be trained again.
4. If it has settings of its own, they are a class in its file, and a field of its name in
   `settings.DistillSettings`, a `later_setting` too. Its sum is given them.
5. What it shows of itself beside its value, if anything, is a `Watch`.

Nothing else tests names: the stage, the dataset, the collator and the trainer ask the loss what it
needs. Losses of one kind share one pass over the output layer. These files are read with the
settings, so torch is imported only inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from llm_distill.methods.shared_tokens import SharedTokens
    from llm_distill.methods.span_distributions import Side

    Batch = Mapping[str, torch.Tensor]
    Divergence = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """The sum of a `DistributionLoss` whose settings are given already."""
    Divergences = Mapping[str, Divergence]
    """By the loss's name."""
    SpanSum = Callable[[Side, Side, SharedTokens], torch.Tensor]
    """The sum of a `SpanLoss`, likewise."""
    SpanSums = Mapping[str, SpanSum]


class Needs(Flag):
    """What a loss needs of the teacher; without any it needs the text alone.

    CHUNKS: the likelihoods of aligned chunks, whatever the tokenizers. DISTRIBUTIONS: the next
    token's whole distribution, or its likeliest tokens', so both models must share a tokenizer.
    SAMPLED, with CHUNKS: the tokens as the student sampled them, and what it thought of them then.
    SPANS: whole distributions at the tokens of aligned chunks, whatever the tokenizers, so a
    teacher in memory. PROJECTION: with it, which teacher's tokens stand for a student's.
    """

    CHUNKS = auto()
    DISTRIBUTIONS = auto()
    SAMPLED = auto()
    SPANS = auto()
    PROJECTION = auto()


class MeanOf(Enum):
    """What a loss is a mean of; the value is the batch's entry that has one element for each."""

    TOKENS = "labelled"
    CHUNKS = "chunk_logps"
    OWN_TOKENS = "own"
    SPANS = "span_sizes"
    SAMPLED = "sampled"


@dataclass(frozen=True)
class TokenReading:
    """What the student's output layer says of a batch's tokens.

    logps: log p(target), [N]. boundary_logps: log p(boundary), [N]; None without debiasing.
    """

    logps: torch.Tensor
    boundary_logps: torch.Tensor | None


@dataclass(frozen=True)
class Watch:
    """What a loss shows of itself beside its value.

    sums: of a batch, by name, without gradients; they are added up over batches and ranks.
    figures: for the history, from the sums since its last point; of the first step alone they are
        there once more, with `_at_start` after their names.
    warnings: what to say of a history, once the training is over.
    """

    sums: Callable[[TokenReading, Batch, Any], dict[str, torch.Tensor]]
    figures: Callable[[Mapping[str, float]], dict[str, float]]
    warnings: Callable[[Sequence[Mapping[str, Any]]], Iterable[str]]


@dataclass(frozen=True)
class TokenLoss:
    """A loss from the likelihoods of tokens.

    summed: over what it is a mean of, in a batch, with its own settings; a scalar.
    """

    name: str
    needs: Needs
    mean_of: MeanOf
    summed: Callable[[TokenReading, Batch, Any], torch.Tensor]
    watch: Watch | None = None


@dataclass(frozen=True)
class DistributionLoss:
    """A loss from the log-probabilities of teacher and student, [N, K] each.

    summed: over the N labelled tokens, with its own settings; a scalar.
    """

    name: str
    summed: Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]
    needs: Needs = Needs.DISTRIBUTIONS
    mean_of: MeanOf = MeanOf.TOKENS

    def with_settings(self, settings: Any) -> Divergence:
        return lambda teacher, student: self.summed(teacher, student, settings)


@dataclass(frozen=True)
class SpanLoss:
    """A loss from the distributions of teacher and student over S spans of text.

    summed: over the spans, with its own settings; a scalar. It is given the teacher's side, the
    student's, and which tokens they share.
    """

    name: str
    summed: Callable[[Side, Side, SharedTokens, Any], torch.Tensor]
    needs: Needs = Needs.SPANS
    mean_of: MeanOf = MeanOf.SPANS

    def with_settings(self, settings: Any) -> SpanSum:
        return lambda teacher, student, shared: self.summed(teacher, student, shared, settings)


Loss = TokenLoss | DistributionLoss | SpanLoss
