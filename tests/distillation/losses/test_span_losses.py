"""The losses over spans, in tiles, against loops; GOLD's also against TRL's own functions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import pad

from llm_distill.distillation.lm_head.head import Head
from llm_distill.distillation.losses import span_tiles
from llm_distill.distillation.losses.known import ACROSS_VOCABULARIES
from llm_distill.distillation.losses.simct import SimctSettings
from llm_distill.distillation.losses.span_tiles import losses_of_spans
from llm_distill.distillation.settings import DistillSettings
from llm_distill.methods.shared_tokens import Edges, Pairs, SharedTokens
from tests.distillation.losses import spans_by_hand

V, W, BETA = 6, 9, 0.3  # tokens of the student, of the teacher
PAIRS = {0: 4, 2: 1, 5: 8}
EDGES = {(0, 4): 1.0, (1, 0): 0.9, (1, 2): 0.1, (2, 1): 1.0, (3, 3): 0.5, (3, 5): 0.5, (5, 8): 1.0}
NEAR = {0: 4, 1: 0, 2: 1, 5: 8}
SIZES = [1, 2, 1, 3, 1], [1, 1, 3, 2, 1]
TARGETS = [2, 3, 5, 1, 0, 4, 4, 2], [1, 6, 2, 0, 7, 3, 3, 5]
"""The first span is a shared token; the last is one token on either side, which is none."""
EDGE = torch.tensor([1]), torch.tensor([6]), torch.ones(1)
NAMES = [loss.name for loss in ACROSS_VOCABULARIES]
SETTINGS = DistillSettings(losses=dict.fromkeys(NAMES, 1.0), beta=BETA)
SHARED = SharedTokens(
    Pairs(torch.tensor([*PAIRS]), torch.tensor([*PAIRS.values()]), V, W),
    Edges(*map(torch.tensor, zip(*EDGES, strict=True)), torch.tensor([*EDGES.values()])),
)


@pytest.fixture
def case():
    """Hidden states, heads (the teacher's is padded), and a batch whose tokens are in 5 spans.

    The student has a labelled token before, between and after the spans; the teacher one before.
    """
    torch.manual_seed(0)
    hidden = torch.randn(11, 4, dtype=torch.float64).requires_grad_()
    weight = (2 * torch.randn(V, 4, dtype=torch.float64)).requires_grad_()
    of_teacher = torch.randn(9, 3, dtype=torch.float64)
    other = 2 * torch.randn(W + 2, 3, dtype=torch.float64)
    tokens = torch.tensor([1, 2, 3, 4, 6, 7, 8, 9])
    batch = {
        "labelled": torch.arange(11) + 1,
        "targets": torch.zeros(12, dtype=torch.int64),
        "span_tokens": tokens,
        "span_sizes": torch.tensor(SIZES[0]),
        "teacher_span_tokens": torch.arange(1, 9),
        "teacher_span_sizes": torch.tensor(SIZES[1]),
        "teacher_targets": torch.tensor([0, *TARGETS[1]]),
        "span_kinds": torch.zeros(5, dtype=torch.int64),
    }
    batch["targets"][tokens + 1] = torch.tensor(TARGETS[0])
    return hidden, Head(weight), of_teacher, Head(other), batch


def found(case, settings=SETTINGS):
    return losses_of_spans(*case, lambda kind: SHARED, settings.span_losses())


def spans(case):
    """(teacher's, student's) side of each."""
    hidden, head, of_teacher, other, batch = case
    logits = (of_teacher @ other.weight[:W].T)[1:], (hidden @ head.weight.T)[batch["span_tokens"]]
    sides = []
    for values, targets, sizes in zip(logits, TARGETS[::-1], SIZES[::-1], strict=True):
        places = list(zip(values, targets, strict=True))
        ends = torch.tensor(sizes).cumsum(0).tolist()
        sides.append([places[end - size : end] for end, size in zip(ends, sizes, strict=True)])
    return zip(*sides, strict=True)


def by_hand(name, teacher, student):
    more = {
        "uld": (),
        "gold": (PAIRS, BETA),
        "p_kl": (EDGES,),
        "h_kl": (NEAR,),
        "simct": (PAIRS,),
    }
    return getattr(spans_by_hand, name)(teacher, student, *more[name])


@pytest.mark.parametrize("tile", [1, 4 * (V + W), 10**6])
@pytest.mark.parametrize("name", NAMES)
def test_tiles_give_what_loops_give(name, tile, case, monkeypatch):
    monkeypatch.setattr(span_tiles, "TILE", {"cpu": tile})
    value = found(case)[name]
    expected = sum(by_hand(name, *span) for span in spans(case))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    inputs = case[0], case[1].weight
    for ours, theirs in zip(
        torch.autograd.grad(value, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_a_tile_holds_no_more_than_it_may(case, monkeypatch):
    monkeypatch.setattr(span_tiles, "TILE", {"cpu": 3 * V + 4 * W})
    sizes = torch.tensor(SIZES[0]), torch.tensor(SIZES[1])
    tiles = span_tiles._tiles(*sizes, SHARED)
    assert [(tile[0].start, tile[0].stop) for tile in tiles] == [(0, 2), (2, 3), (3, 5)]
    assert tiles[2][1:] == (slice(4, 8), slice(5, 8))


@pytest.mark.parametrize("name", NAMES)
def test_spans_of_each_kind_have_shared_tokens_of_their_own(name, case):
    """The first of a text, where one side has a space more, and the others."""
    other = SharedTokens(Pairs(torch.tensor([1]), torch.tensor([6]), V, W), Edges(*EDGE))
    case[-1]["span_kinds"][2] = 1
    sums = losses_of_spans(*case, lambda kind: other if kind else SHARED, SETTINGS.span_losses())
    alike, third = [*spans(case)], [*spans(case)][2]
    del alike[2]
    more = {"uld": (), "gold": ({1: 6}, BETA), "simct": ({1: 6},), "h_kl": ({1: 6},)}
    more["p_kl"] = ({(1, 6): 1.0},)
    expected = getattr(spans_by_hand, name)(*third, *more[name])
    expected = expected + sum(by_hand(name, *span) for span in alike)
    assert sums[name].item() == pytest.approx(expected.item(), rel=1e-6)


def test_simct_of_logits(case):
    """Which are known up to a number that each place may choose: it is not the same loss."""
    settings = DistillSettings(losses={"simct": 1.0}, simct=SimctSettings(scores="logits"))
    value = found(case, settings)["simct"].item()
    expected = sum(
        spans_by_hand.simct(*span, PAIRS, scores="logits").item() for span in spans(case)
    )
    assert value == pytest.approx(expected)
    assert value != pytest.approx(found(case)["simct"].item(), rel=1e-2)


def test_no_spans(case):
    *sides, batch = case
    empty = torch.zeros(0, dtype=torch.int64)
    batch |= {name: empty for name in batch if "span_" in name}
    values = found((*sides, batch))
    assert [value.item() for value in values.values()] == [0] * len(NAMES)
    (gradient,) = torch.autograd.grad(sum(values.values()), sides[0])
    assert not gradient.any()


def test_a_model_that_is_its_own_teacher_has_nothing_to_learn(case):
    """With one tokenizer spans are tokens, and each has itself for a partner."""
    hidden, head, *_, batch = case
    every = torch.arange(V)
    shared = SharedTokens(Pairs(every, every, V, V), Edges(every, every, torch.ones(V)))
    tokens = batch["span_tokens"]
    batch |= {
        "span_sizes": torch.ones_like(tokens),
        "teacher_span_tokens": tokens,
        "teacher_span_sizes": torch.ones_like(tokens),
        "teacher_targets": batch["targets"][batch["labelled"]],
        "span_kinds": torch.zeros_like(tokens),
    }
    own = hidden.detach(), Head(head.weight.detach())
    values = losses_of_spans(hidden, head, *own, batch, lambda kind: shared, SETTINGS.span_losses())
    for value in values.values():
        assert value.item() == pytest.approx(0, abs=1e-8)
        for gradient in torch.autograd.grad(value, (hidden, head.weight), retain_graph=True):
            assert gradient.abs().max() < 1e-8


def of_trl(case, strategy, is_hybrid):
    """The loss of TRL's GOLD on these spans, with one token before them on either side."""
    from trl.experimental.gold.gold_trainer import ULDLoss

    hidden, head, of_teacher, other, batch = case
    named = {
        "student": {**{f"s{i}": i for i in range(V)}, **{f"t{b}": a for a, b in PAIRS.items()}},
        "teacher": {f"t{i}": i for i in range(W)},
    }
    for ours in PAIRS:
        del named["student"][f"s{ours}"]
    config = SimpleNamespace(
        uld_crossentropy_weight=0.0,
        uld_distillation_weight=1.0,
        uld_student_temperature=1.0,
        uld_teacher_temperature=1.0,
        uld_skip_student_eos=False,
        uld_skip_teacher_eos=False,
        use_extended_uld=True,
        uld_token_merge_strategy=strategy,
        uld_use_hybrid_loss=is_hybrid,
        beta=BETA,
    )
    sides = [SimpleNamespace(get_vocab=lambda of=of: named[of]) for of in ("student", "teacher")]
    loss = ULDLoss(config, *sides)
    logits = (hidden @ head.weight.T)[batch["span_tokens"]], (of_teacher @ other.weight[:W].T)[1:]
    # The place that predicts a text's token is the one before it; the last place predicts nothing.
    given = [torch.cat([side, side[:1]])[None] for side in logits]
    ids = [torch.tensor([[0, *targets]]) for targets in TARGETS]
    labels = [pad(torch.tensor([targets]), (1, 0), value=-100) for targets in TARGETS]
    return loss(*given, *labels, *ids, *map(offsets, SIZES))


def offsets(sizes):
    """A span is 6 bytes; its tokens end at parts of it."""
    ends = [6 * span + 6 * (i + 1) // size for span, size in enumerate(sizes) for i in range(size)]
    return torch.tensor([[[0, 0], *([0, end] for end in ends)]])


@pytest.mark.parametrize(("name", "is_hybrid"), [("uld", False), ("gold", True)])
def test_gold_is_trls(name, is_hybrid, case):
    """TRL's is a mean over a text's spans."""
    expected = of_trl(case, "bayesian", is_hybrid) * len(SIZES[0])
    value = found(case)[name]
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    inputs = case[0], case[1].weight
    for ours, theirs in zip(
        torch.autograd.grad(value, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_what_trl_does_unless_told_otherwise_is_one_place_late(case):
    """`observed` takes for a token's distribution the one that predicts the token after it.

    So its factor is the probability that a token comes twice. See decisions/0040.
    """
    teachers, students = map(following, zip(*spans(case), strict=True))
    expected = sum(
        spans_by_hand.by_rank(late(*teacher), late(*student))
        for teacher, student in zip(teachers, students, strict=True)
    )
    value = of_trl(case, "observed", False) * len(SIZES[0])
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    assert value.item() != pytest.approx(found(case)["uld"].item(), rel=1e-2)


def following(sides):
    """Each span with the distribution at the place after each of its tokens."""
    places = [place for span in sides for place in span]
    after = [logits for logits, _ in places[1:]] + [places[0][0]]
    given, start = [], 0
    for span in sides:
        given.append((span, after[start : start + len(span)]))
        start += len(span)
    return given


def late(span, after):
    factor = 1.0
    for (_, token), logits in list(zip(span, after, strict=True))[1:]:
        factor = factor * logits.softmax(-1)[token].clamp(min=1e-8)
    return [factor * p for p in after[0].softmax(-1)]


def test_a_student_that_says_just_what_its_teacher_says_is_punished_by_most():
    """The text 15 is one token of the teacher, and two of the student, which are tokens of both.

    Both are sure of it. ALM and ULD find no fault; the others compare the student's "1" with the
    teacher's "1", which never comes alone. See docs/results/across-tokenizers.md.
    """
    ids = {"1": 0, "5": 1, "7": 2, "15": 3}
    one, five, whole = (20.0 * (torch.arange(4) == ids[text]) for text in ("1", "5", "15"))
    teacher, student = [(whole, ids["15"])], [(one[:3], ids["1"]), (five[:3], ids["5"])]
    pairs = {i: i for i in range(3)}
    edges = {(i, i): 1.0 for i in range(3)}
    faults = {
        "alm": sum(x.log_softmax(-1)[i] for x, i in student)
        - sum(x.log_softmax(-1)[i] for x, i in teacher),
        "uld": spans_by_hand.uld(teacher, student),
        "gold": spans_by_hand.gold(teacher, student, pairs, BETA),
        "p_kl": spans_by_hand.p_kl(teacher, student, edges),
        "h_kl": spans_by_hand.h_kl(teacher, student, pairs),
        "simct": spans_by_hand.simct(teacher, student, pairs),
    }
    found = {name for name, fault in faults.items() if abs(fault) > 0.1}
    assert found == {"gold", "p_kl", "h_kl", "simct"}
    assert max(abs(faults["alm"]), faults["uld"]) < 1e-6
