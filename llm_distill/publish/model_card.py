"""The card of a model, from its manifests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llm_distill.publish.cards import Card, ModelRow, Origin, model_rows, render, scrubbed_sources
from llm_distill.publish.licenses import KNOWN, UNKNOWN
from llm_distill.publish.lineage import Lineage
from llm_distill.publish.results import Result, notes_of, own_tables, results_of
from llm_distill.publish.scrub import scrubbed
from llm_distill.publish.snippet import Loading, asking, snippet

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from llm_distill.manifest import Manifest

NOT_HANDED_ON = frozenset({UNKNOWN, "other"})
"""Licenses of a base that mean nothing without their text."""


def model_card(origin: Origin, repo_id: str, license_id: str | None, *, is_adapter: bool) -> Card:
    """The README.md of a model's repository.

    Args:
        origin: What it is written from.
        repo_id: The repository.
        license_id: What the user set; None for the base's license, if that is known.
        is_adapter: Whether the repository has an adapter instead of a whole model.
    """
    from huggingface_hub import ModelCardData

    lineage = origin.lineage
    rows = model_rows(origin)
    base = next((row for row in rows if row.is_base), None)
    inherited = base.license if base and base.license in KNOWN - NOT_HANDED_ON else None
    results = results_of(
        names_of(lineage), lineage.base.name if lineage.base else None, origin.evaluations
    )
    kinds = [manifest.stage for manifest, _ in reversed(lineage.trainings)]
    trained = [kind.removeprefix("train_") for kind in kinds if kind.startswith("train_")]
    base_id = lineage.base.path if lineage.base and lineage.base.is_on_hub else None
    data = ModelCardData(
        base_model=base_id,
        base_model_relation=("adapter" if is_adapter else "finetune") if base_id else None,
        datasets=sorted({s.path for s in lineage.data_sources if s.is_on_hub}) or None,
        library_name="peft" if is_adapter else "transformers",
        license=license_id or inherited,
        model_name=repo_id.rpartition("/")[2],
        eval_results=_model_index(results, origin) or None,
        pipeline_tag="text-generation",
        tags=["llm-distill", *(["distillation"] if lineage.others else []), *trained],
    )
    text = render(
        "model_card.md.jinja",
        data,
        origin,
        rows,
        title=repo_id.rpartition("/")[2],
        repo_id=repo_id,
        is_adapter=is_adapter,
        base_path=base.path if base else "?",
        usage=_usage(origin, repo_id, base, is_adapter=is_adapter),
        steps=[f"`{kind}`" for kind in kinds],
        of_conversations=[
            _trained_turns(manifest)
            for manifest, _ in reversed(lineage.trainings)
            if manifest.settings.get("messages_column")
        ],
        is_inherited=license_id is None and inherited is not None,
        results=results,
        notes=notes_of(e.manifest for e in origin.evaluations),
    )
    warnings = [row.warning for row in rows if row.warning]
    shown = {result.stage for result in results}
    shown |= {name for name, _ in own_tables(e.manifest for e in origin.evaluations)}
    unshown = [e.manifest.name for e in origin.evaluations if e.manifest.name not in shown]
    warnings += [
        f"evaluation '{name}' has no accuracy of '{lineage.manifest.name}', so the card does not "
        "show it; is the model among those that it measures?"
        for name in unshown
    ]
    if license_id is None and inherited is None:
        warnings.append("the card does not name a license: the base's is not known; set license")
    if is_adapter and base_id is None:
        warnings.append(
            "the adapter's base is not on the Hub, so others cannot load it; push it merged"
        )
    return Card(text, tuple(warnings))


def _usage(origin: Origin, repo_id: str, base: ModelRow | None, *, is_adapter: bool) -> str:
    """Python that loads the repository and asks its model as the last exam that names it did."""
    lineage = origin.lineage
    entries = origin.pipeline.get("models") or {}
    entry = (entries.get(lineage.base.name) if lineage.base else None) or {}
    if is_adapter:
        is_on_hub = lineage.base is not None and lineage.base.is_on_hub
        note = "" if is_on_hub else "not on the Hub"
        revision = base.revision if base and is_on_hub else None
        dtype = str(entry.get("dtype") or "auto")
        loading = Loading(base.path if base else "?", (repo_id,), revision, dtype, note)
    else:
        loading = Loading(repo_id)
    names = names_of(lineage)
    exams = [
        each.manifest
        for each in origin.evaluations
        if each.manifest.stage == "evaluate"
        and names.intersection(each.manifest.settings.get("models") or ())
    ]
    trainings = [manifest for manifest, _ in lineage.trainings if manifest.stage != "merge_adapter"]
    is_chat = entry.get("prompt_format", "chat") == "chat"
    exam, training = exams[-1] if exams else None, trainings[0] if trainings else None
    asked = asking(is_chat, exam, training, quotes=False)
    cleaned: Mapping[str, Any] = scrubbed(asked.variables or {}, os.environ)
    return snippet(loading, replace(asked, variables=cleaned))


def _trained_turns(manifest: Manifest) -> str:
    """What a training on conversations had in the loss: it changes what the model does."""
    which = {"last": "the assistant's last turn"}.get(
        manifest.settings.get("answers", ""), "the assistant's turns"
    )
    thoughts = {"last": "with the thoughts of the last one only", "drop": "without thoughts"}.get(
        manifest.settings.get("thoughts", ""), "with the thoughts that they have"
    )
    return (
        f"`{manifest.stage}` trained {which} of conversations, {thoughts}; turns of weight 0 were "
        "not trained."
    )


def names_of(lineage: Lineage) -> set[str]:
    """The model's names: its stage, and the adapter that was merged into it exactly."""
    names = {lineage.manifest.name}
    for manifest, start in lineage.trainings:
        if manifest.stage != "merge_adapter" or manifest.settings["dtype"] != "float32":
            break
        names.add(start)
    return names


def _model_index(results: list[Result], origin: Origin) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    entries: list[EvalResult] = []
    shown = {s["stage"]: s for e in origin.evaluations for s in scrubbed_sources(e)}
    for result in results:
        source = shown.get(result.source.stage) if result.source else None
        for when, row in (("", result.after), (" before training", result.before)):
            if row is None:
                continue
            known = {"low": row.low, "high": row.high, "n": row.n}
            extra = {name: value for name, value in known.items() if value is not None}
            entry = EvalResult(
                task_type="text-generation",
                dataset_type=source["path"] if source else result.stage,
                dataset_name=source["path"] if source else result.stage,
                dataset_config=source["name"] if source else None,
                dataset_split=source["split"] if source else None,
                dataset_revision=source["revision"] if source else None,
                metric_type="accuracy",
                metric_name=f"accuracy{when}, {result.shots} shots (95 % interval in args)",
                metric_value=row.accuracy,
                metric_args={"shots": result.shots, **extra},
            )
            if entry not in entries:  # another evaluation of the run measured the same
                entries.append(entry)
    return entries
