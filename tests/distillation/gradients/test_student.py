"""A step on a text, and gradients of texts, against torch's own way to both in float64."""

from __future__ import annotations

import pytest
import torch

from llm_distill.distillation.gradients.kept import Kept
from llm_distill.distillation.gradients.similarities import Similarities
from llm_distill.errors import ModelError
from llm_distill.training.warm_up import State
from tests.distillation.gradients import by_hand
from tests.distillation.gradients.by_hand import settings, student_of, texts_of

LORA = {"r": 4}
PEFT = pytest.mark.parametrize("peft", [None, LORA], ids=["full", "lora"])


@pytest.fixture
def texts(student, rows):
    return texts_of(settings(), student, rows)


def influence(stage, student, text, reference):
    """As the stage has it: mean loss, and reference loss before − after."""
    before = student.mean_loss(reference.all)
    nll, after = stage._one(student, text, reference)
    return nll, before - after


@PEFT
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_influence_is_that_of_a_step_of_torchs(student, texts, optimizer, peft, decay):
    """From moments that earlier steps left, and from none."""
    stage = settings(optimizer=optimizer, learning_rate=3e-3, peft=peft, weight_decay=decay)
    candidate, *others = texts.all
    reference = type(texts)(all=others)
    for n_steps in (0, 3):
        model, other = (by_hand.model_of(student, stage) for _ in range(2))
        scored = student_of(model, batch_tokens=100)
        groups = [
            {
                "params": [
                    p
                    for name, p in other.named_parameters()
                    if p.requires_grad and ("norm" not in name) == is_decayed
                ],
                "weight_decay": decay * is_decayed,
            }
            for is_decayed in (True, False)
        ]
        kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
        by_torch = kind([group for group in groups if group["params"]], lr=3e-3)
        for text in others[:n_steps]:
            by_torch.zero_grad()
            by_hand.loss(other, text).backward()
            by_torch.step()
        named = {n: p for n, p in other.named_parameters() if p.requires_grad}
        moments = [
            {
                n: by_torch.state.get(p, {}).get(kind, torch.zeros_like(p)).clone()
                for n, p in named.items()
            }
            for kind in ("exp_avg", "exp_avg_sq")
        ]
        weights = {n: p.detach().clone() for n, p in named.items()}
        scored.load(State(n_steps, 1.0, weights, *moments))
        nll, found = influence(stage, scored, candidate, reference)

        by_torch.zero_grad()
        before = by_hand.mean_loss(other, others).item()
        ell = by_hand.loss(other, candidate)
        ell.backward()
        by_torch.step()
        assert nll == pytest.approx(ell.item(), rel=1e-12)
        expected = before - by_hand.mean_loss(other, others).item()
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-13)
        assert abs(expected) > 1e-6


@PEFT
def test_a_small_step_of_sgd_is_the_product_of_gradients(student, texts, peft):
    """And there the scores of candidates add up."""
    reference = type(texts)(all=texts.all[4:])
    model = by_hand.model_of(student, settings(peft=peft))
    of_reference = by_hand.gradient(model, by_hand.mean_loss(model, reference.all))
    rate = 1e-9
    stage = settings(optimizer="sgd", learning_rate=rate, peft=peft)
    for text in texts.all[:3]:
        product = (of_reference @ by_hand.gradient(model, by_hand.loss(model, text))).item()
        _, found = influence(stage, student_of(model), text, reference)
        assert found / rate == pytest.approx(product, rel=1e-4)


@PEFT
def test_the_weights_are_restored_bit_by_bit(student, texts, peft):
    stage = settings(learning_rate=0.1, peft=peft)
    model = by_hand.model_of(student, stage).float()
    scored = student_of(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    first = influence(stage, scored, texts.all[0], texts)
    assert abs(first[1]) > 1e-3
    with pytest.raises(KeyboardInterrupt), scored.stepped(lambda name, weight: weight + 1):
        raise KeyboardInterrupt
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    for moments in (scored.first, scored.second):
        assert not any(moment.any() for moment in moments.values())
    assert influence(stage, scored, texts.all[0], texts) == first


def test_neither_batches_nor_order_nor_padding_count(student, texts):
    model = by_hand.model_of(student, settings())
    expected = by_hand.mean_loss(model, texts.all).item()
    for batch_tokens in (1, 90, 8192):
        for order in (texts.all, texts.all[::-1], texts.all[3:] + texts.all[:3]):
            assert student_of(model, batch_tokens).mean_loss(order) == pytest.approx(expected)


def test_it_is_counted_what_was_computed(student, texts):
    scored = student_of(by_hand.model_of(student, settings()))
    with scored.cost.timed():
        settings()._one(scored, texts.all[0], texts)
    tokens = [len(text.ids) for text in texts.all]
    figures = scored.cost.figures()
    assert figures.pop("seconds") > 0
    assert figures == {
        "forward_passes": 1 + len(tokens),
        "backward_passes": 1,
        "forward_tokens": tokens[0] + sum(tokens),
        "backward_tokens": tokens[0],
    }


def test_tokens_that_the_model_has_not_are_refused(student, texts):
    scored = student_of(by_hand.model_of(student, settings()))
    scored.check(texts.all)
    texts.all[0].ids[1] = 500
    with pytest.raises(ModelError, match="token 500 of row 'r0' is not among the model's own 268"):
        scored.check(texts.all)


def similarities(model, candidates, reference, folder, **more):
    given = {"by_adam": False, "size": None, "seed": 0, **more}
    kept = Kept(folder / f"{len(list(folder.iterdir()))}.jsonl")
    made = Similarities(student_of(model), candidates, reference, kept=kept, **given)
    return made.at("0", lambda texts, tokens: None)


@PEFT
def test_similarity_is_the_cosine_of_autograds_gradients(student, texts, tmp_path, peft):
    model = by_hand.model_of(student, settings(peft=peft))
    (key, candidate), *_ = texts.of.items()
    others = texts.all[3:]
    mine = by_hand.gradient(model, by_hand.loss(model, candidate))
    theirs = [by_hand.gradient(model, by_hand.loss(model, text)) for text in others]
    for reference, expected in (
        (others[:1], torch.cosine_similarity(mine, theirs[0], 0)),
        (others, torch.stack([torch.cosine_similarity(mine, t, 0) for t in theirs]).mean()),
    ):
        nll, norm, cosine = similarities(model, {key: candidate}, reference, tmp_path)[key]
        assert nll == pytest.approx(by_hand.loss(model, candidate).item(), rel=1e-9)
        assert norm == pytest.approx(mine.norm().item(), rel=1e-9)
        assert cosine == pytest.approx(expected.item(), abs=1e-12)


def test_candidates_are_compared_as_adam_would_use_them(student, texts, tmp_path):
    """With moments by name, each with its own parameter."""
    model = by_hand.model_of(student, settings(peft=LORA))
    scored = student_of(model)
    generator = torch.Generator().manual_seed(5)
    random = {n: torch.rand(p.shape, generator=generator) for n, p in scored.parameters.items()}
    random = {n: m.double() for n, m in random.items()}
    first = {n: (m - 0.5) / 10 for n, m in random.items()}
    second = {n: m / 100 for n, m in random.items()}
    weights = {n: p.detach().clone() for n, p in scored.parameters.items()}
    scored.load(State(5, 1.0, weights, first, second))
    (key, candidate), *_ = texts.of.items()
    kept = Kept(tmp_path / "kept.jsonl")
    given = {"by_adam": True, "size": None, "seed": 0, "kept": kept}
    made = Similarities(scored, {key: candidate}, texts.all[1:2], **given)
    _, _, cosine = made.at("0", lambda texts, tokens: None)[key]
    g = by_hand.gradient(model, by_hand.loss(model, candidate))
    m, v = (torch.cat([moment.flatten() for moment in of.values()]) for of in (first, second))
    gamma = (0.9 * m + 0.1 * g) / (0.999 * v + 0.001 * g**2 + 1e-8).sqrt()
    reference = by_hand.gradient(model, by_hand.loss(model, texts.all[1]))
    expected = torch.cosine_similarity(gamma, reference, 0).item()
    assert cosine == pytest.approx(expected, abs=1e-9)
    plain = similarities(model, {key: candidate}, texts.all[1:2], tmp_path)[key][2]
    assert abs(plain - cosine) > 0.01


def test_projected_cosines_are_near_in_any_order(student, texts, tmp_path, monkeypatch):
    model = by_hand.model_of(student, settings())
    exact = similarities(model, texts.of, texts.all[5:], tmp_path)
    near = similarities(model, texts.of, texts.all[5:], tmp_path, size=1024)
    errors = [abs(exact[key][2] - near[key][2]) for key in texts.of]
    assert 1e-4 < max(errors) < 5 / 1024**0.5
    monkeypatch.setattr("llm_distill.distillation.gradients.similarities.WINDOW_TEXTS", 3)
    backwards = dict(reversed(texts.of.items()))
    again = similarities(model, backwards, texts.all[5:][::-1], tmp_path, size=1024)
    for key, numbers in near.items():
        assert again[key] == pytest.approx(numbers, abs=1e-6)
