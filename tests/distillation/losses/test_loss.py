"""A loss says what it needs; the settings and the losses name the same ones."""

from __future__ import annotations

import pytest

from llm_distill.distillation.losses.known import LOSSES
from llm_distill.distillation.losses.loss import MeanOf, Needs
from llm_distill.distillation.settings import DistillSettings, LossWeights
from llm_distill.runtime.fingerprint import result_settings


def test_each_weight_has_its_loss_and_each_loss_its_weight():
    assert list(LOSSES) == list(LossWeights.model_fields)


def test_a_weight_without_a_loss_is_refused():
    class More(LossWeights):
        other_kl: float | None = None

    with pytest.raises(KeyError, match="other_kl"):
        More(other_kl=1.0).named()


def test_a_loss_is_given_its_own_settings():
    settings = DistillSettings()
    assert settings.of(LOSSES["alm"]) is settings.alm
    assert settings.of(LOSSES["sft"]) is None
    assert DistillSettings(beta=0.3).of(LOSSES["jsd"]) == 0.3


def test_a_loss_that_is_added_leaves_fingerprints_as_they_are():
    """Its weight and its settings are `later_setting`s: see the docstring of losses/loss.py."""
    weights = {"alm": 1.0, "sft": 1.0, "forward_kl": None, "reverse_kl": None, "jsd": None}
    alm = {"temperature": 1.0, "divergence": "kl", "debias": True, "gamma": 0.1}
    expected = {"losses": weights, "combine": "fixed", "alm": alm, "beta": 0.5}
    assert result_settings(DistillSettings()) == expected


def test_what_is_needed_is_asked_of_the_losses():
    settings = DistillSettings(losses=LossWeights(alm=1.0, sft=1.0, jsd=1.0))
    assert settings.from_teacher() == ["alm", "jsd"]
    assert settings.losses.needing(Needs.CHUNKS) == ["alm"]
    assert settings.losses.needing(Needs.DISTRIBUTIONS) == ["jsd"]
    means = {loss.name: loss.mean_of for loss in settings.losses.named()}
    assert means == {"alm": MeanOf.CHUNKS, "sft": MeanOf.OWN_TOKENS, "jsd": MeanOf.TOKENS}
