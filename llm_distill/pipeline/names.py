"""Whether a reference can name what it names, and if not, what it could name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Literal

from llm_distill.errors import nearest
from llm_distill.pipeline.rounds import Rounds
from llm_distill.pipeline.schema import ModelConfig
from llm_distill.stage import Stage


@dataclass(frozen=True)
class Names:
    """Everything that a reference can name.

    stages: those of a known kind. declared: all, in order. models: those whose settings are valid.
    model_names: all.
    """

    stages: Mapping[str, Stage]
    declared: Sequence[str]
    models: Mapping[str, ModelConfig]
    model_names: Sequence[str]
    rounds: Rounds

    def misfit(
        self,
        target: str,
        kind: Literal["rows", "model"],
        name: str,
        *,
        needs_weights: bool = False,
        at_start: bool = False,
        if_served: str | None = None,
    ) -> str | None:
        """Why `target` cannot be named where stage `name` needs `kind`.

        needs_weights: the stage loads it itself, so that it cannot be behind a server.
        at_start: it is named under `start:` of the repeat whose first stage is `name`.
        if_served: what to do where it is behind one, in place of naming another model.
        """
        is_model = target in self.model_names
        is_kind = target not in self.stages or self.stages[target].output == kind
        if is_model and kind == "model" and not (needs_weights and self._is_served(target)):
            return None
        if not is_model and is_kind and self._line.get(target, len(self._line)) < self._line[name]:
            return None
        here = self.rounds.of.get(name)
        hint = self._hint(target, kind, name, needs_weights, at_start)
        shown = target if at_start else self.rounds.written(target, name)
        if is_model:
            if kind == "model":
                kind_of_engine = self.models[target].engine.kind
                why = f"is on a server (engine kind {kind_of_engine}): no weights to load"
                return f"'{target}' {why}; {if_served or hint}"
            return f"'{target}' is a model; rows are needed here; {hint}"
        if target not in self._line:
            if at_start and here is not None and self.rounds.blocks.get(target) is here.block:
                return f"'{target}' is a stage of this repeat; name what is there before it; {hint}"
            explained = self.rounds.explain(target, "" if at_start else name)
            noun = "stage" if kind == "rows" else "model, nor a stage that trains one, named"
            if kind == "model" and "/" in target:  # a directory's name, or the Hub's
                enter = f"enter it under models: as NAME: {{model_name_or_path: {target}}}"
                hint = f"{enter}, and write NAME here; {hint}"
            return explained or f"no {noun} '{target}'; {hint}"
        if not is_kind:
            wanted = "rows" if kind == "rows" else "a model"
            return f"'{shown}' gives {self.stages[target].output}, where {wanted} should be; {hint}"
        later = here.block.name if at_start and here else self.rounds.written(name, name)
        return f"'{shown}' comes later in the file; put it before '{later}'"

    @cached_property
    def _line(self) -> dict[str, int]:
        return {name: line for line, name in enumerate(self.declared)}

    def _is_served(self, model: str) -> bool:
        return model in self.models and not self.models[model].engine.has_weights_here()

    def _hint(self, target: str, kind: str, name: str, needs_weights: bool, at_start: bool) -> str:
        """What could be named instead, as stage `name` would write it."""
        here = self.rounds.of.get(name)
        known = [(self.rounds.written(n, name), n) for n in self.declared[: self._line[name]]]
        if here is not None and not at_start:  # whatever round it is of: they are written alike
            known += [(f"{n}@previous", f"{n}@1") for n in here.block.stages]
        allowed = {w for w, n in known if n in self.stages and self.stages[n].output == kind}
        if kind == "model":
            allowed.update(
                m for m in self.model_names if not needs_weights or not self._is_served(m)
            )
        meant = target if at_start else self.rounds.written(target, name)
        if "@" not in meant:  # a slip is as near to `x@previous` as to `x`
            stages = {each.partition("@")[0]: each for each in sorted(allowed, reverse=True)}
            meant = next((stages[s] for s in get_close_matches(meant, stages, n=1)), meant)
        return nearest(meant, allowed)
