"""The exact world of teacher hacking: its gradients and distances, and the order of the paper."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from statistics import fmean

import numpy as np
import pytest
from hacking_world import WAYS, World, is_called, sigmoid, trained, without_golden

from llm_distill.methods.hacking import Point, judged

SEEDS = range(4)


@cache
def runs(name: str) -> list[list[Point]]:
    return [trained(World.drawn(seed), WAYS[name], 1000 + seed) for seed in SEEDS]


def last(name: str, what: str) -> float:
    return fmean(getattr(run[-1], what) for run in runs(name))


FIXED, FEW, ANSWERS, MORE, TEXTS, PROMPTS = WAYS


def test_a_distance_is_the_sum_over_all_texts() -> None:
    world = World.drawn(0)
    student = np.full_like(world.oracle, 0.3)
    total = 0.0
    for prompt in range(len(world.share)):
        for turn in range(len(world.share[0])):
            p = world.oracle[prompt, turn]
            kl = p * np.log(p / 0.3) + (1 - p) * np.log((1 - p) / 0.7)
            total += world.share[prompt, turn] * kl
    assert world.distance(world.oracle, student) == pytest.approx(total)
    assert world.distance(world.oracle, world.oracle) == 0
    assert world.share.sum() == pytest.approx(1)


def test_on_the_same_texts_golden_falls_and_rises_while_the_proxy_falls() -> None:
    for run in runs(FIXED):
        golden = [point.golden or 0.0 for point in run]
        lowest = int(np.argmin(golden))
        assert 0 < lowest < len(run) // 4
        assert golden[-1] > 1.05 * golden[lowest]
        assert run[-1].proxy < run[lowest].proxy
        assert is_called(run)


def test_the_line_is_left_where_the_teacher_has_no_fault() -> None:
    """It is texts that are used up which bend it. Golden is the proxy then, and calls nothing."""
    for seed in SEEDS:
        run = trained(World.drawn(seed, fault=0), WAYS[ANSWERS], 1000 + seed)
        assert all(point.golden == point.proxy for point in run)
        assert not is_called(run)
        assert is_called(without_golden(run))


def test_new_prompts_each_epoch_prevent_it() -> None:
    for run in runs(PROMPTS):
        assert not is_called(run)
        assert (run[-1].golden or 0) < 1.03 * min(point.golden or 0.0 for point in run)
        assert not is_called(without_golden(run))


def test_the_order_is_that_of_the_paper() -> None:
    """Fewer prompts at equal texts: golden is worse. More answers, prompts, new texts: better."""
    golden = {name: last(name, "golden") for name in WAYS}
    assert golden[FEW] > 1.1 * golden[FIXED]
    assert golden[FIXED] > 1.1 * golden[ANSWERS]
    assert golden[ANSWERS] > 1.1 * golden[MORE]
    assert golden[FIXED] > 1.3 * golden[TEXTS] > 1.5 * golden[PROMPTS]
    assert last(FIXED, "proxy") > 1.3 * last(ANSWERS, "proxy")


def test_a_bad_teacher_alone_is_no_hacking() -> None:
    """One that is right about what is likelier and far too unsure: golden falls, and ends high."""
    for seed in SEEDS:
        world = World.drawn(seed)
        logits = np.log(world.oracle / (1 - world.oracle))
        unsure = replace(world, teacher=sigmoid(0.1 * logits))
        run = trained(unsure, WAYS[PROMPTS], 1000 + seed)
        assert (run[-1].golden or 0) > 1.3 * last(PROMPTS, "golden")
        assert not is_called(run)


def test_a_rate_that_falls_bends_the_line() -> None:
    """Nothing is hacked on new prompts; without golden the falling rate is taken for a sign."""
    run = [trained(World.drawn(s), WAYS[PROMPTS], 1000 + s, rate_falls=True) for s in SEEDS]
    bent = [judged(without_golden(each))[-1].excess or 0.0 for each in run]
    straight = [judged(without_golden(each))[-1].excess or 0.0 for each in runs(PROMPTS)]
    assert min(b - s for b, s in zip(bent, straight, strict=True)) > 0.1
    assert not any(is_called(each) for each in run)


def test_the_line_alone_is_a_poor_judge_here() -> None:
    """What docs/teacher-hacking.md says of it: it also bends where golden does not rise."""
    by_line = sum(is_called(without_golden(run)) for run in runs(TEXTS))
    assert by_line > sum(map(is_called, runs(TEXTS)))
