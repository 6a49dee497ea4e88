"""Three small worlds whose truth is known, and the figure of docs/watching-rollouts.md.

    python scripts/on_policy_truths.py

They show why a student learns from its own texts, which way a divergence points, and how texts
grow. Students are tables, trained with the losses of `train_distill`; shares and lengths are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

FIGURE = Path(__file__).resolve().parent.parent / "docs" / "on-policy.svg"
BLUE, RED, GREEN, GREY = "#1b6ca8", "#d1495b", "#66a182", "#7a7a7a"

ERROR = 0.05
"""Of a step on the path, however the student is trained."""
TEACHER_RETURNS = 0.9
UNTRAINED_RETURNS = 0.001
LENGTHS = (8, 16, 32, 64)

GRID = np.linspace(-10, 10, 401)

LONGEST = 64


def share_on_path(n_steps: int, returns: float) -> float:
    """Mean share of steps on the path; each step errs, or from off the path returns."""
    on, total = 1.0, 0.0
    for _ in range(n_steps):
        on = on * (1 - ERROR) + (1 - on) * returns
        total += on
    return total / n_steps


def learned_to_return(*, from_own_texts: bool, n_steps: int = 32) -> float:
    """How often a student returns to the path after training on texts of n_steps.

    A text of the teacher is never off the path, so nothing is learned there; the student's own is
    as often as the student as it is now.
    """
    import torch

    from llm_distill.distillation.losses.shared_vocabulary import REVERSE_KL

    untrained = float(np.log(UNTRAINED_RETURNS / (1 - UNTRAINED_RETURNS)))
    logit = torch.tensor([untrained], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[TEACHER_RETURNS, 1 - TEACHER_RETURNS]], dtype=torch.float64).log()
    optimizer = torch.optim.Adam([logit], lr=0.1)
    for _ in range(400):
        student = torch.stack([logit, torch.zeros_like(logit)], -1).log_softmax(-1)
        off = (
            1 - share_on_path(n_steps, float(student[0, 0].detach().exp()))
            if from_own_texts
            else 0.0
        )
        optimizer.zero_grad()
        (off * REVERSE_KL.summed(teacher, student, None)).backward()
        optimizer.step()
    return float(logit.detach().sigmoid())


def two_modes() -> torch.Tensor:
    """Log-probabilities over GRID, [1, K]: half a Gaussian at -3, half one at 3."""
    import torch

    x = torch.from_numpy(GRID)
    modes = torch.stack([-((x - 3) ** 2) / 2, -((x + 3) ** 2) / 2])
    return modes.logsumexp(0).log_softmax(-1)[None]


@dataclass(frozen=True)
class Fit:
    """The Gaussian that is left after training, on GRID; kl: what the loss is then."""

    mean: float
    deviation: float
    kl: float
    density: NDArray[np.float64]


def fitted(loss: str, start: float = 2.0) -> Fit:
    """One Gaussian, trained with this loss against `two_modes`.

    start: its first mean, with a deviation of 1. Begun in the middle, at 1 even, reverse_kl stays
    there: mean 0, deviation 2.8, value 0.84, which is worse than a mode, but no step leads away.
    """
    import torch

    from llm_distill.distillation.losses.shared_vocabulary import FORWARD_KL, REVERSE_KL

    losses = {each.name: each for each in (FORWARD_KL, REVERSE_KL)}

    x, teacher = torch.from_numpy(GRID), two_modes()
    mean = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    log_deviation = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([mean, log_deviation], lr=0.05)

    def value() -> tuple[torch.Tensor, torch.Tensor]:
        student = (-(((x - mean) / log_deviation.exp()) ** 2) / 2).log_softmax(-1)[None]
        return losses[loss].summed(teacher, student, None), student

    for _ in range(800):
        optimizer.zero_grad()
        value()[0].backward()
        optimizer.step()
    with torch.no_grad():
        kl, student = value()
        density = student.exp().numpy()[0] / (GRID[1] - GRID[0])
        return Fit(float(mean), float(log_deviation.exp()), float(kl), density)


@dataclass(frozen=True)
class Writer:
    """Writes until it ends, or falls into a loop, which it leaves by ending.

    ends, enters: chances of a step outside of the loop. stays: that of a step in it.
    """

    ends: float
    enters: float
    stays: float

    def lengths(self) -> NDArray[np.float64]:
        """[LONGEST]: the chance to end after so many tokens, from 1; what is left is cut."""
        free, looping, found = 1.0, 0.0, np.zeros(LONGEST)
        for step in range(LONGEST):
            found[step] = free * self.ends + looping * (1 - self.stays)
            looping = looping * self.stays + free * self.enters
            free *= 1 - self.ends - self.enters
        return found

    @property
    def cut(self) -> float:
        return float(1 - self.lengths().sum())

    @property
    def mean(self) -> float:
        return float(self.lengths() @ np.arange(1, LONGEST + 1)) + self.cut * LONGEST


TEACHER = Writer(ends=0.1, enters=0.001, stays=0.97)
BEFORE = Writer(ends=0.1, enters=0.1, stays=0.8)
AFTER = Writer(ends=0.1, enters=0.1, stays=TEACHER.stays)
"""It matches the teacher where it stands, in the loop; that it gets there at all is its own."""


def main() -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "on-policy"  # the same file every time
    from matplotlib import pyplot as plt

    panels: tuple[Callable[[Any], None], ...] = (_draw_path, _draw_modes, _draw_lengths)
    figure, axes = plt.subplots(1, len(panels), figsize=(10.5, 3.2), layout="constrained")
    for draw, panel in zip(panels, axes, strict=True):
        draw(panel)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(FIGURE, metadata={"Date": None})
    print(f"{FIGURE}: written")


def _draw_path(axes: Any) -> None:
    steps = np.arange(1, LONGEST + 1)
    for name, own, colour in (("its own texts", True, BLUE), ("the teacher's", False, RED)):
        returns = learned_to_return(from_own_texts=own)
        shares = [share_on_path(int(n), returns) for n in steps]
        axes.plot(steps, shares, color=colour, label=name)
        print(f"on the path, {name}:", *(f"{n}: {shares[n - 1]:.2f}" for n in LENGTHS))
    axes.set(xlabel="steps of a text", ylabel="share on the path", ylim=(0, 1))
    axes.legend(title="student learns from", frameon=False, loc="lower left", fontsize=8)


def _draw_modes(axes: Any) -> None:
    width = GRID[1] - GRID[0]
    axes.fill_between(GRID, two_modes().exp().numpy()[0] / width, color=GREY, alpha=0.3, lw=0)
    for loss, colour in (("forward_kl", RED), ("reverse_kl", BLUE)):
        fit = fitted(loss)
        axes.plot(GRID, fit.density, color=colour, label=loss)
        print(f"{loss}: mean {fit.mean:.2f}, deviation {fit.deviation:.2f}, value {fit.kl:.3f}")
    axes.set(xlabel="what is written", ylabel="probability", yticks=[])
    axes.legend(frameon=False, loc="upper left", fontsize=8)


def _draw_lengths(axes: Any) -> None:
    steps = np.arange(1, LONGEST + 1)
    for name, writer, colour in (
        ("teacher", TEACHER, GREY),
        ("student before", BEFORE, GREEN),
        ("student after", AFTER, BLUE),
    ):
        left = 1 - np.cumsum(writer.lengths())
        axes.plot(steps, left, color=colour, label=f"{name}: mean {writer.mean:.1f}")
        print(f"{name}: mean length {writer.mean:.1f}, cut {writer.cut:.1%}")
    axes.set(xlabel="tokens", ylabel="share of texts that are longer", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
