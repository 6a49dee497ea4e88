"""The loss opd in the trainer against loops over bytes and tokens; what is said of a training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.distillation.losses.opd import OPD, OpdSettings, check_writers
from llm_distill.distillation.settings import DistillSettings
from llm_distill.errors import DataError
from llm_distill.methods.sampled_reverse_kl import IW_GAMMA
from llm_distill.models.sources import load_model
from llm_distill.runtime.fingerprint import result_settings
from llm_distill.stages.train_distill import TrainDistill
from tests.distillation import plain, tiny
from tests.distillation.trainers import ARGUMENTS, trainer, weights

RATE = ARGUMENTS["learning_rate"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no ratios": {"clip_ratio": None},
    "summed": {"returns": "sum"},
    "normalised": {"returns": "mean", "clip_ratio": None},
    "spread": {"credit": "spread"},
    "clipped": {"clip_advantage": 0.5, "clip_ratio": (0.9, 1.1)},
    "early tokens": {"weights": "iw", "clip_advantage": 3.0},
    "beyond the teacher": {"reward_scale": 1.25},
    "first tokens": {"first_tokens": 7},
    "first tokens, summed": {"first_tokens": 5, "returns": "sum", "weights": "iw"},
}


def opd(**settings: Any) -> DistillSettings:
    return DistillSettings(losses={"opd": 1.0}, opd=settings)


def by_loops(rows, teacher, student, settings: OpdSettings):
    """The mean of log q − log p, and the gradient by parameter."""
    model = load_model(student)
    kl, loss, n_tokens = 0.0, torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        theirs = plain.side(teacher, row)
        ours = plain.side(student, row, model, row["completion_ids"])
        q, p = ours.logps.detach(), theirs.logps.detach()
        r = torch.tensor(row["rollout_logps"], dtype=torch.float64)
        found = plain.chunks(theirs, ours)
        rewards = []
        n_learnt = min(len(q), settings.first_tokens or len(q))
        for left, right, _ in found:
            c_t, c_s, c_r = p[left].sum(), q[right].sum(), r[right].sum()
            kl += (c_s - c_t).item() if right[0] < n_learnt else 0.0
            rewards.append((settings.reward_scale * (c_t - c_r) - (c_s - c_r)).item())
        advantages = [0.0] * len(q)
        for c, (_, right, _) in enumerate(found):
            for i in right:
                advantages[i] = rewards[c]
                if settings.credit == "spread":
                    advantages[i] = rewards[c] * (q[i] / q[right].sum()).item()
                if settings.returns == "sum":
                    start = c - 1 if i == right[0] and c > 0 else c
                    advantages[i] = sum(rewards[start:])
                if settings.returns == "mean":
                    start = c - 1 if i == right[0] and c > 0 else c
                    n_later = sum(len(later) for _, later, _ in found[start + 1 :])
                    advantages[i] = rewards[start] + sum(rewards[start + 1 :]) / max(1, n_later)
        if settings.clip_advantage is not None:
            most = settings.clip_advantage
            advantages = [min(most, max(-most, a)) for a in advantages]
        if settings.weights == "iw":
            sizes = [abs(a) for a in advantages]
            shares = [sum(sizes[:i]) / sum(sizes) for i in range(len(sizes))]
            advantages = [
                a * (1 + IW_GAMMA * (1 - s)) for a, s in zip(advantages, shares, strict=True)
            ]
        for i, advantage in enumerate(advantages[:n_learnt]):
            ratio = 1.0
            if settings.clip_ratio is not None:
                low, high = settings.clip_ratio
                ratio = min(high, max(low, math.exp(q[i] - r[i])))
            loss = loss - advantage * ratio * ours.logps[i]
        n_tokens += n_learnt
    (loss / n_tokens).backward()
    gradients = {name: value.grad for name, value in model.named_parameters()}
    return kl / n_tokens, gradients


@pytest.mark.parametrize("name", VARIANTS)
def test_value_and_gradient_are_those_of_loops(name, student, teacher, tmp_path) -> None:
    rows, settings = tiny.as_sampled(student), opd(**VARIANTS[name])
    built = trainer(student, teacher, settings, tmp_path / "run", rows=rows)
    before = weights(built)
    built.train()
    point = next(p for p in built.state.log_history if "loss" in p)
    kl, gradients = by_loops(rows, teacher, student, settings.opd)
    assert point["opd"] == point["loss"] == pytest.approx(kl, rel=1e-4)
    for key, value in weights(built).items():
        moved = (before[key] - value) / RATE
        largest = gradients[key].abs().max()
        assert (moved - gradients[key]).abs().max() < 2e-3 * largest + 1e-7 / RATE, key


def test_figures_are_those_of_the_ratios(student, teacher, tmp_path) -> None:
    rows = tiny.as_sampled(student)
    steps = {"max_steps": 2, "logging_steps": 2, "learning_rate": 0.3}
    built = trainer(student, teacher, opd(), tmp_path / "run", rows=rows, **steps)
    built.train()
    (point,) = [p for p in built.state.log_history if "loss" in p]
    model = load_model(student)
    logs = torch.cat(
        [
            plain.side(student, row, model, row["completion_ids"]).logps.detach()
            - torch.tensor(row["rollout_logps"])
            for row in rows
        ]
    )
    rho = logs.exp()
    expected = {
        "opd_apart": logs.abs().mean(),
        "opd_clipped": ((rho < 0.8) | (rho > 1.28)).double().mean(),
        "opd_effective": rho.sum() ** 2 / (len(rho) * rho.square().sum()),
    }
    for name, value in expected.items():
        assert point[f"{name}_at_start"] == pytest.approx(value.item(), rel=1e-4)
        assert point[name] != pytest.approx(value.item(), rel=1e-2)  # both steps, one moved


def test_more_first_tokens_than_there_are_is_all_of_them(student, teacher, tmp_path) -> None:
    rows, found = tiny.as_sampled(student), []
    for settings in ({}, {"first_tokens": 999}):
        folder = tmp_path / f"run {len(found)}"
        built = trainer(student, teacher, opd(**settings), folder, rows=rows)
        built.train()
        found.append((built.state.log_history[0]["opd"], weights(built)))
    (one, before), (other, after) = found
    assert one == other
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_unset_it_changes_no_fingerprint() -> None:
    where = {"stage": "train_distill", "model": "s", "teacher": "t", "rows": "r"}
    kinds = [
        str(
            result_settings(
                TrainDistill(**where, losses={"opd": 1.0}, opd={"weights": "iw", **more})
            )
        )
        for more in ({}, {"first_tokens": None}, {"first_tokens": 3})
    ]
    assert "first_tokens" not in kinds[0]
    assert kinds[0] == kinds[1]
    assert "first_tokens" in kinds[2]


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=[*VARIANTS])
def test_batches_and_padding_change_nothing(settings, student, teacher, tmp_path) -> None:
    rows = tiny.as_sampled(student)
    ends = []
    for n, order in ((1, 1), (4, -1)):
        arguments = {
            "per_device_train_batch_size": len(rows) // n,
            "gradient_accumulation_steps": n,
        }
        folder = tmp_path / f"by {n}"
        built = trainer(student, teacher, opd(**settings), folder, rows=rows[::order], **arguments)
        before = weights(built)
        built.train()
        point = next(p for p in built.state.log_history if "loss" in p)
        ends.append((point, {k: before[k] - v for k, v in weights(built).items()}))
    (one, moved), (four, also) = ends
    for name in ("opd", "opd_effective", "opd_apart_at_start"):
        assert four[name] == pytest.approx(one[name], rel=1e-5)
    for key, value in moved.items():
        assert (also[key] - value).abs().max() < 1e-3 * value.abs().max() + 3e-7, key


@pytest.mark.parametrize("returns", ["chunk", "sum", "mean"])
def test_a_teacher_that_is_the_student_teaches_nothing(returns, student, tmp_path) -> None:
    rows = tiny.as_sampled(student)
    twin = replace(student, name="twin")
    built = trainer(student, twin, opd(returns=returns), tmp_path / "run", rows=rows)
    before = weights(built)
    built.train()
    point = next(p for p in built.state.log_history if "loss" in p)
    assert abs(point["opd"]) < 1e-5
    assert point["grad_norm"] < 1e-3
    for key, value in weights(built).items():
        assert torch.allclose(value, before[key], atol=1e-6)


def test_with_one_tokenizer_a_chunk_is_a_token_whatever_it_says(learn, student) -> None:
    """White space too, which goes with the first word where texts are aligned."""
    encoder = row_encoder(student, None)
    rows = tiny.as_sampled(student)
    for row in rows:
        parts = encoder.tokenizer([" ", row["completion"]], add_special_tokens=False)["input_ids"]
        row["completion_ids"] = [*parts[0], *parts[1], encoder.tokenizer.eos_token_id]
        row["rollout_logps"] = [-0.5] * len(row["completion_ids"])
    n_tokens = sum(len(row["completion_ids"]) for row in rows)
    assert learn(rows, by=student).metrics["alignment"]["n_chunks"] == n_tokens
    losses = {"alm": 1.0}
    run = learn(rows, by=student, losses=losses, alm={"debias": False})
    assert run.metrics["alignment"]["n_chunks"] < n_tokens


def test_beside_another_loss_chunks_are_as_they_are_cut() -> None:
    both = {"opd": 1.0, "alm": 1.0}
    with pytest.raises(ValidationError, match=r"set alm.debias: false"):
        DistillSettings(losses=both)
    settings = DistillSettings(losses=both, alm={"debias": False})
    assert not settings.debiases()
    assert not opd().debiases()  # whatever alm says, which is not named
    assert not opd().chunking().debias


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"credit": "spread", "returns": "sum"}, "use credit: sampled"),
        ({"credit": "spread", "returns": "mean"}, "with returns: mean a token answers for more"),
        ({"clip_ratio": (1.1, 1.2)}, r"\[low, high\] around 1"),
        ({"clip_ratio": (0.5, math.inf)}, "clip_ratio"),
        ({"reward_scale": 0}, "greater than 0"),
        ({"first_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OpdSettings(**wrong)


def test_rows_without_likelihoods_of_their_writer() -> None:
    assert check_writers(0, 5, OpdSettings()) is None
    assert check_writers(2, 5, OpdSettings(clip_ratio=None)) is None
    assert "2 of 5 rows have no rollout_logps" in (check_writers(2, 5, OpdSettings()) or "")
    with pytest.raises(DataError, match=r"opd.reward_scale .* 2 of 5 rows"):
        check_writers(2, 5, OpdSettings(reward_scale=1.25))


def test_a_stage_needs_to_know_who_wrote_its_rows() -> None:
    """Which a file is told where no row can say it; or it says that it does not matter."""
    where = {"stage": "train_distill", "model": "s", "teacher": "t", "rows": "r"}
    written = {"completion_ids", "rollout_logps", "written_with"}

    def needed(**settings: Any) -> set[str]:
        return TrainDistill(**{**where, "losses": {"opd": 1.0}, **settings}).required_columns()["r"]

    assert written < needed()
    assert not written & needed(opd={"clip_ratio": None})
    assert written < needed(opd={"clip_ratio": None, "reward_scale": 1.25})
    assert not written & needed(online=True, rollouts={"max_tokens": 8})
    assert not written & needed(losses={"alm": 1.0})
    said = TrainDistill(**where, losses={"opd": 1.0}).remedy("rollout_logps") or ""
    assert "generate gives it with keep_tokens; or opd: {clip_ratio: null}" in said


def test_what_is_said_of_a_training() -> None:
    assert OPD.watch is not None
    good = {"step": 1, "opd_effective": 0.9, "opd_apart": 0.1, "opd_apart_at_start": 0.02}
    assert not [*OPD.watch.warnings([good, {"step": 2}])]
    far = {**good, "opd_apart_at_start": 0.4}
    (said,) = OPD.watch.warnings([far, {"step": 3, "opd_apart_at_start": 0.0}])
    assert "0.40 nats a token from rollout_logps" in said
    for share, apart in ((0.3, 0.2), (0.8, 0.9)):
        late = [{"opd_effective": share + d, "opd_apart": apart} for d in (-0.05, 0.05)]
        (said,) = OPD.watch.warnings([good, *late])
        assert f"{share:.0%} of the sampled tokens are effective" in said
        assert f"{apart:.2f} nats a token away" in said


@pytest.fixture
def learn(run_stage, scored, student, teacher, tmp_path):
    """Scores rows and trains on them as `change` makes them after that."""

    def run(rows, change=lambda row: row, by=teacher, **settings):
        where = {"stage": "train_distill", "model": "s", "teacher": "t", "rows": "r"}
        made = TrainDistill(**{**where, "losses": {"opd": 1.0}, "max_steps": 1, **settings})
        read = {name: value for name, value in settings.items() if name == "truncated"}
        given = [change(row) for row in scored(rows, by, **read)]
        work = tmp_path / f"training {len(list(tmp_path.iterdir()))}"
        return run_stage(made, {"r": given}, models={"s": student, "t": by}, work_dir=work)

    return run


def test_stored_scores_give_what_a_teacher_in_memory_does(
    learn, student, teacher, tmp_path
) -> None:
    rows = tiny.as_sampled(student)
    built = trainer(student, teacher, opd(), tmp_path / "run", rows=rows)
    built.train()
    wanted = next(p for p in built.state.log_history if "loss" in p)
    run = learn(rows)
    (point,) = [p for p in run.metrics["history"] if "loss" in p]
    for name in ("opd", "grad_norm", "opd_apart_at_start"):
        assert point[name] == pytest.approx(wanted[name], rel=1e-4)
    (said,) = [w for w in run.warnings if "losses.opd" in w]
    assert "nats a token from rollout_logps" in said


def test_rows_of_text_alone_are_learnt_from_with_one_warning(learn) -> None:
    run = learn(tiny.ROWS)
    (said,) = [w for w in run.warnings if "losses.opd" in w]
    assert "8 of 8 rows have no rollout_logps" in said
    assert "opd_effective" not in run.metrics["history"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completion": " "}, "no row of 'r' can be trained on: 8 empty completion"),
        ({"completion_ids": [10**6, 1]}, "8 completion_ids holds a token that the vocabulary"),
        ({"written_with": "0123"}, "8 sampled by a model with another tokenizer"),
        ({"rollout_logps": [-0.5]}, r"row r0 has 1 rollout_logps for \d+ completion_ids"),
        ({"teacher_logps": [-math.inf] * 99}, "row r0 of 'r': teacher_logps holds -inf"),
    ],
)
def test_rows_that_cannot_be_learnt_from(learn, student, change, message) -> None:
    with pytest.raises(DataError, match=message):
        learn(tiny.as_sampled(student), lambda row: {**row, **change})


def test_a_cut_text_has_no_end_in_the_loss(learn, student) -> None:
    def cut(row: dict[str, Any]) -> dict[str, Any]:
        n = len(row["completion_ids"]) - 1
        kept = {name: row[name][:n] for name in ("completion_ids", "rollout_logps")}
        return {**row, **kept, "finish_reason": "length"}

    whole, rows = tiny.as_sampled(student), [cut(row) for row in tiny.as_sampled(student)]
    n_whole, n_cut = (sum(len(row["completion_ids"]) for row in given) for given in (whole, rows))
    assert n_cut == n_whole - len(rows)
    for truncated in ("close", "open"):
        run = learn(rows, truncated=truncated, warmup_steps=0)
        aligned = run.metrics["alignment"]
        assert aligned["n_chunks"] * aligned["student_tokens_per_chunk"] == pytest.approx(n_cut)
