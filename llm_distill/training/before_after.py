"""A few prompts, answered before and after a training: what did it change?

before: "To find how many pens Tom has, …"  (41 tokens, ended)
after:  "13.0."                             (4 tokens, ended, and the same to every prompt)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llm_distill.doing import doing
from llm_distill.errors import ModelError
from llm_distill.evaluation.result_rows import AnsweredPrompt, WritingRow
from llm_distill.evaluation.results import Results
from llm_distill.methods.collapse import LEAST_ANSWERS, Answer, Habits, collapse, habits
from llm_distill.models.sources import context_length, end_tokens, load_tokenizer
from llm_distill.training.data import NO_LOSS
from llm_distill.training.greedy import write_greedily
from llm_distill.training.quantization import is_quantized

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.stage import Context

Prompted = tuple[list[int], list[int]]
"""Token ids of a prompt, and of the answer to it that is trained."""

BEFORE = "written_before.json"
"""Beside the checkpoints of a training: what was written before it."""
PROMPTS = 16
FEWEST_TOKENS, MOST_TOKENS = 64, 192
"""Of an answer: between these, by the longest answer of the rows. Longer ones are judged by their
beginning."""
SHOWN, SHOWN_CHARACTERS = 3, 600
ADVICE = (
    "lower learning_rate or num_train_epochs, or train on more rows; with DPO, loss_type: "
    "[sigmoid, sft] keeps it near the chosen answers"
)


NOTHING_MOVED = (
    "after the training the model gives the same answers as before, word for word, to {n} prompts "
    "of {whose} rows, and not the rows' answers: it has hardly moved. Raise learning_rate (an "
    "adapter wants about ten times the rate of a full training) or num_train_epochs"
)


class BeforeAfter:
    """Asks a model the same prompts before and after its training: of held-out rows, if there are
    enough for a conclusion.

    Answers are greedy and nothing is drawn at random, so the weights are those that the training
    gives without it. Rows without a prompt (text alone) have nothing to be asked.
    """

    def __init__(
        self, source: ModelSource, dataset: Dataset, held_out: Dataset | None, batch_size: int
    ) -> None:
        self.batch_size = batch_size  # the training's: what fits there fits here
        self.tokenizer = load_tokenizer(source)
        self.ends = end_tokens(source, self.tokenizer)
        held = [] if held_out is None else some_prompts(held_out)
        self.is_held_out = len(held) >= LEAST_ANSWERS
        self.prompted = held if self.is_held_out else some_prompts(dataset)
        longest = max((len(answer) for _, answer in self.prompted), default=0)
        wanted = min(MOST_TOKENS, max(FEWEST_TOKENS, longest + longest // 2 + 8))
        prompt = max((len(prompt) for prompt, _ in self.prompted), default=0)
        self.most = min(wanted, context_length(source) - prompt)  # there is room for an answer
        self.before: list[Answer] = []
        self.entropy_before: float | None = None

    def ask_before(self, model: Any) -> None:
        """Keep what the model writes before it is trained, on the device that it is trained on."""
        import torch

        if torch.cuda.is_available() and not is_quantized(model):  # those are there already
            model.to("cuda")  # where the trainer moves it next
        self.before, self.entropy_before = self._ask(model)

    def remember(self, folder: Path) -> None:
        """Keep what was written before the training for a run that goes on with it."""
        kept = {"answers": self.before, "entropy": self.entropy_before}
        (folder / BEFORE).write_text(json.dumps(kept), encoding="utf-8")

    def recall(self, folder: Path) -> bool:
        """Whether an earlier run has kept it."""
        with suppress(FileNotFoundError):
            found = json.loads((folder / BEFORE).read_text(encoding="utf-8"))
            self.before = [(tuple(ids), ended) for ids, ended in found["answers"]]
            self.entropy_before = found["entropy"]
            return True
        return False

    def compare(self, model: Any, context: Context, *, stop: bool) -> None:
        """Note in the metrics how the trained model writes, and say if it has collapsed.

        Raises:
            ModelError: it has, and `stop` is set.
        """
        if not self.prompted:
            return
        after, entropy = self._ask(model)
        wanted = [self._until_end(ids) for _, ids in self.prompted]
        before, now, rows = map(self._habits, (self.before, after, wanted))
        named = (
            ("before", before, self.entropy_before),
            ("after", now, entropy),
            ("the rows'", rows, None),
        )
        triples = zip(self.prompted, self.before, after, strict=True)
        found = Results(
            writing=tuple(
                WritingRow(answers=name, **asdict(of), entropy=uncertain)
                for name, of, uncertain in named
            ),
            answered=tuple(
                AnsweredPrompt(
                    prompt=self._text(prompt), before=self._text(old), after=self._text(new)
                )
                for (prompt, _), (old, _), (new, _) in islice(triples, SHOWN)
            ),
        )
        context.metrics.update(found.to_metrics())
        wrong = collapse(before, now, rows, len(after))
        if wrong is None:
            if self._moved_nothing(after):
                whose = "the held-out" if self.is_held_out else "the"
                context.warn(NOTHING_MOVED.format(n=len(after), whose=whose))
            return
        example = (
            f" For example {_short(self._text(self.before[0][0]))} has become "
            f"{_short(self._text(after[0][0]))}."
        )
        said = f"the trained model has collapsed: {wrong}.{example} {ADVICE}"
        if stop:
            raise ModelError(f"{said}. To go on with it all the same, set on_collapse: warn")
        context.warn(said)

    def _moved_nothing(self, after: Sequence[Answer]) -> bool:
        """Whether it answers all as before, though not as the rows do."""
        wanted = [self._until_end(ids) for _, ids in self.prompted]
        return after == self.before != wanted and len(after) >= LEAST_ANSWERS

    def _habits(self, answers: Sequence[Answer]) -> Habits:
        return habits(answers, [self.tokenizer.decode(list(ids)) for ids, _ in answers])

    def _ask(self, model: Any) -> tuple[list[Answer], float | None]:
        """Its answers, and the mean over these of the mean entropy of a token."""
        prompts = [prompt for prompt, _ in self.prompted]
        starts = range(0, len(prompts), self.batch_size)
        batches = (prompts[start : start + self.batch_size] for start in starts)
        pad = self.tokenizer.pad_token_id
        answers: list[Answer] = []
        entropies: list[float] = []
        with doing("ask some prompts", len(prompts), "prompts") as bar:
            for batch in batches:
                written = write_greedily(model, batch, self.ends, pad, self.most)
                some = [self._until_end(ids) for ids in written.ids]
                for (ids, ended), each in zip(some, written.entropies, strict=True):
                    entropies.append(fmean(each[: len(ids) + ended]))
                answers += some
                bar.advance(len(batch))
        return answers, fmean(entropies) if entropies else None

    def _until_end(self, ids: Iterable[int]) -> Answer:
        """An answer as far as a model may write here, without the token that ends it."""
        kept = tuple(ids)[: self.most]
        at = next((place for place, token in enumerate(kept) if token in self.ends), None)
        return (kept, False) if at is None else (kept[:at], True)

    def _text(self, ids: Iterable[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"'{line}'" if len(line) <= 60 else f"'{line[:60]}…'"


def some_prompts(dataset: Dataset, most: int = PROMPTS) -> list[Prompted]:
    """Of evenly spaced rows, prompts that differ: of pairs with the chosen answer."""
    found: dict[tuple[int, ...], list[int]] = {}
    step = max(1, len(dataset) // (2 * most))  # some rows have the prompt of another
    for index in range(0, len(dataset), step):
        prompt, answer = _prompted(dataset[index])
        if prompt and answer:
            found.setdefault(tuple(prompt), answer)
        if len(found) == most:
            break
    return [(list(prompt), answer) for prompt, answer in found.items()]


def _prompted(row: dict[str, Any]) -> Prompted:
    if "prompt_ids" in row:
        wanted = row["chosen_ids"] if "chosen_ids" in row else row["completion_ids"]
        return list(row["prompt_ids"]), list(wanted) if row.get("label", True) else []
    if "labels" not in row:
        return [], []
    ids, labels = list(map(int, row["input_ids"])), list(map(int, row["labels"]))
    start = next((i for i, label in enumerate(labels) if label != NO_LOSS), len(labels))
    end = next((i for i in range(start, len(labels)) if labels[i] == NO_LOSS), len(labels))
    return ids[:start], ids[start:end]
