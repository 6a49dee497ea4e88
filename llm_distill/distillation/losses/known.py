"""The losses there are, by name."""

from __future__ import annotations

from llm_distill.distillation.losses.alm import ALM
from llm_distill.distillation.losses.loss import Loss
from llm_distill.distillation.losses.opd import OPD
from llm_distill.distillation.losses.sft import SFT
from llm_distill.distillation.losses.shared_vocabulary import FORWARD_KL, JSD, REVERSE_KL

ALL: tuple[Loss, ...] = (ALM, SFT, FORWARD_KL, REVERSE_KL, JSD, OPD)
LOSSES: dict[str, Loss] = {loss.name: loss for loss in ALL}
