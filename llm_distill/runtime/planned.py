"""All that is known of a run before it begins: for the table of `plan`, as JSON, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.estimate import Estimate, estimates, sampled_prompts
from llm_distill.runtime.hardware import this_machine
from llm_distill.runtime.loops import Ended
from llm_distill.runtime.needs import Needs, NeedsOf
from llm_distill.runtime.plan import Decision, Selection, plan, planning
from llm_distill.runtime.preflight import Preflight, preflight


@dataclass(frozen=True)
class Planned:
    """What would be done. sizes, and the needs in `preflight`: of the stages that are to run.

    ended: the repeats of which it is known after which round they end.
    """

    pipeline: PipelineConfig
    decisions: Sequence[Decision]
    sizes: Mapping[str, Estimate]
    preflight: Preflight
    ended: Sequence[Ended] = ()

    def needs(self, name: str) -> Needs:
        return self.preflight.needs.get(name, Needs())

    def total(self) -> dict[str, Any]:
        """Of what is known. GPUs and memory are the most at one time."""
        sizes = list(self.sizes.values())
        needs = [self.needs(name) for name in self.sizes]
        largest = [n.largest.on_each for n in needs if n.largest is not None]
        seconds = [size.seconds for size in sizes if size.seconds is not None]
        checkpoints = max((n.checkpoints or 0 for n in needs), default=0)
        return {
            "stages_to_run": len(sizes),
            "stages_of_unknown_requests": sum(size.requests is None for size in sizes),
            "most_requests": sum(size.requests or 0 for size in sizes),
            "most_written_tokens": sum(size.tokens or 0 for size in sizes),
            "prompt_tokens": sum(size.prompt_tokens or 0 for size in sizes),
            "most_cost": sum(size.cost or 0 for size in sizes),
            "gpus": max((n.gpus for n in needs), default=0),
            "memory_bytes_per_device": max(largest, default=None),
            "disk_bytes": sum(n.output or 0 for n in needs) + checkpoints or None,
            "most_seconds": sum(seconds) if seconds else None,
        }

    def as_json(self) -> dict[str, Any]:
        """null: not known, or not before other stages have run."""
        return {
            "stages": [self._stage_as_json(decision) for decision in self.decisions],
            "total": self.total(),
            "ended": {each.block: each.loop.model_dump() for each in self.ended},
            "problems": list(self.preflight.listed(self.pipeline).found),
            "warnings": list(self.preflight.warnings),
        }

    def _stage_as_json(self, decision: Decision) -> dict[str, Any]:
        found: dict[str, Any] = {
            "stage": decision.name,
            "action": decision.action,
            "why": decision.why,
        }
        size = self.sizes.get(decision.name)
        if size is None:
            return found
        needs, last = self.needs(decision.name), size.last
        largest = needs.largest
        return found | {
            "most_requests": size.requests,
            "most_written_tokens": size.tokens,
            "prompt_tokens": size.prompt_tokens,
            "prompt_tokens_counted_by": size.prompts_by,
            "most_cost": size.cost,
            "gpus": needs.gpus,
            "devices": largest and largest.devices,
            "memory_bytes_per_device": largest and largest.on_each,
            "memory_parts_bytes": largest and dict(largest.parts),
            "disk_model_bytes": needs.output,
            "disk_checkpoints_bytes": needs.checkpoints,
            "most_seconds": size.seconds,
            "last_seconds": last and last.seconds,
            "last_written_tokens": last and last.tokens_out,
            "last_prompt_tokens": last and last.tokens_in,
            "last_cost": last and last.cost,
            "last_disk_bytes": last and sum(file.bytes for file in last.files.values()),
        }


def planned(
    pipeline: PipelineConfig,
    workspace: Workspace,
    selection: Selection,
    *,
    asks_servers: bool = False,
) -> Planned:
    """Look at everything that `run` would do now. Changes nothing.

    asks_servers: for their models; this sends them their keys.
    """
    resolver = planning(pipeline, workspace)
    with disk_explained(workspace.root):
        ended: list[Ended] = []
        found_so_far = plan(pipeline, workspace, selection, resolver=resolver, ended=ended.append)
        decisions = list(found_so_far)
        pipeline = resolver.pipeline  # without the rounds that its repeats do not come to
        folder_of = NeedsOf(pipeline, resolver.ready, this_machine()).folder
        prompts = sampled_prompts(decisions, resolver, folder_of)
        sizes = estimates(decisions, pipeline, workspace, prompts)
        must_be_ready = selection.must_be_ready(pipeline)
        found = preflight(decisions, resolver, workspace, must_be_ready, asks_servers=asks_servers)
    return Planned(pipeline, decisions, sizes, found, ended)
