"""The losses there are, by name."""

from __future__ import annotations

from llm_distill.distillation.losses.alm import ALM
from llm_distill.distillation.losses.gold import GOLD, ULD
from llm_distill.distillation.losses.loss import Loss
from llm_distill.distillation.losses.opd import OPD
from llm_distill.distillation.losses.sft import SFT
from llm_distill.distillation.losses.shared_vocabulary import FORWARD_KL, JSD, REVERSE_KL
from llm_distill.distillation.losses.simct import SIMCT
from llm_distill.distillation.losses.x_token import H_KL, P_KL

WITH_ONE_VOCABULARY: tuple[Loss, ...] = FORWARD_KL, REVERSE_KL, JSD
ACROSS_VOCABULARIES: tuple[Loss, ...] = ULD, GOLD, P_KL, H_KL, SIMCT
ALL: tuple[Loss, ...] = (ALM, SFT, *WITH_ONE_VOCABULARY, OPD, *ACROSS_VOCABULARIES)
LOSSES: dict[str, Loss] = {loss.name: loss for loss in ALL}
