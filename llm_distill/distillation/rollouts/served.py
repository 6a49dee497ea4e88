"""The student's engine writes: a server into which the adapter is loaded as it is in training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llm_distill.distillation.asked_once import asked_once
from llm_distill.distillation.rollouts.rows import Written, read_written
from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.engines.base import Completion, Request, SamplingSettings
from llm_distill.errors import ModelError
from llm_distill.training.launch import is_main, is_sharded
from llm_distill.training.weights import write_adapter


class Ask(Protocol):
    """`stage.Context.generate` of the student, with the adapter in a folder."""

    def __call__(
        self, requests: Iterable[Request], *, total: int, adapter: Path
    ) -> Iterator[tuple[Request, Completion]]: ...


@dataclass
class ServedWriter:
    """Writes after prompts, on the student's engine.

    name, tokenizer: the student's. ends: the tokens that end its texts. folder: for the adapters,
        of which it keeps the one that is loaded. warn: is told of the first text that is not
        written.
    """

    name: str
    tokenizer: Any
    ends: Collection[int]
    settings: RolloutSettings
    ask: Ask
    folder: Path
    warn: Callable[[str], None]
    _loaded: Path | None = None
    _n_written: int = 0
    _has_warned: bool = False

    def write(
        self, model: Any, prompts: Sequence[list[int]], seeds: Sequence[int], step: int
    ) -> list[Written | None]:
        """A text after each prompt, in their order; None for one that the server does not write.

        All processes have to call it, with whatever prompts. model: as the trainer has it. step:
        counted from 0.

        Raises:
            ModelError: the server takes no adapter, cannot be reached, or has written no text yet.
        """
        adapter = self._saved(model, step - step % self.settings.reload_every)
        asked = list(zip(prompts, seeds, strict=True))
        return asked_once(asked, lambda every: self._asked(every, adapter, step))

    def _saved(self, model: Any, step: int) -> Path:
        """Where the adapter of a step is; it is that of now, where it was not saved then."""
        place = self.folder / f"step-{step}"
        if self._loaded == place:
            return place
        self._loaded = place
        weights = _gathered(model) if is_sharded() else None
        if is_main():
            shutil.rmtree(self.folder, ignore_errors=True)
            write_adapter(model, place, weights)
        return place

    def _asked(
        self, asked: Sequence[tuple[list[int], int]], adapter: Path, step: int
    ) -> list[Written | None]:
        own = self.settings
        sampling = SamplingSettings(
            temperature=own.temperature, max_tokens=own.max_tokens, stop=own.stop
        )
        requests = [
            Request(str(place), prompt, sampling, seed, tokens=True)
            for place, (prompt, seed) in enumerate(asked)
        ]
        if not requests:
            return []
        found = [c for _, c in self.ask(requests, total=len(requests), adapter=adapter)]
        failed = [completion for completion in found if completion.error is not None]
        of = f"the student '{self.name}' (rollouts.writer: engine), step {step + 1}"
        if passing := [completion for completion in failed if completion.is_passing]:
            raise ModelError(
                f"{of}: {passing[0].error}; once its server answers, run the file again: the "
                "training goes on from its last checkpoint (save_steps)"
            )
        self._n_written += len(found) - len(failed)
        if not self._n_written:
            raise ModelError(f"{of}: no text was written: {failed[0].error}")
        if failed and not self._has_warned:
            self._has_warned = True
            self.warn(
                f"{of}: {len(failed)} of {len(found)} texts are not written, and count for "
                f"nothing, as all others like them: {failed[0].error}"
            )
        return [self._written(completion) for completion in found]

    def _written(self, completion: Completion) -> Written | None:
        if completion.error is not None:
            return None
        ids, logps = completion.token_ids or (), completion.logprobs or ()
        return read_written(ids, self.tokenizer, self.ends, self.settings.stop, logps)


def _gathered(model: Any) -> Mapping[str, Any]:
    """What is trained of a model that is divided among the processes, by name, on the first."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    found: Mapping[str, Any] = get_model_state_dict(model, options=options)
    return found
