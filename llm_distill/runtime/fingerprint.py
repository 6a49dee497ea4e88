"""What makes two executions of a stage the same work. Pure.

A stage's identity is its kind and version, the settings that can change the result, and the digests
of templates, models, sources and inputs; its fingerprint is `digests.fingerprint` of that.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any

from pydantic import BaseModel

from llm_distill.digests import canonical_json


def result_settings(settings: BaseModel) -> dict[str, Any]:
    """The settings that the result depends on.

    Without `execution_setting`s and without `later_setting`s at their default; with the
    `former_settings` of its classes, so that what was made before they were removed is found again.
    """
    kept: dict[str, Any] = {}
    for base in type(settings).__mro__:
        kept.update(base.__dict__.get("former_settings", {}))
    for name, field in type(settings).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("affects_result") is False:
            continue
        value = getattr(settings, name)
        if isinstance(extra, dict) and extra.get("later") and value == field.default:
            continue
        if isinstance(value, BaseModel):
            kept[name] = result_settings(value)
        elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
            kept[name] = {key: result_settings(inner) for key, inner in value.items()}
            kept[f"{name} in order"] = list(value)  # which the JSON of a mapping does not tell
        else:
            kept.update(settings.model_dump(mode="json", include={name}))
    return kept


_OF_ONE_SEED = ("weights", "training")


def without_earlier_stages(identity: Mapping[str, Any], stages: Container[str]) -> dict[str, Any]:
    """An identity without its seed and without what earlier stages gave, as plain JSON.

    It is the same for all seeds, and for an artifact whose inputs are gone. Of models that stages
    trained, the weights and the training are left out.

    Args:
        identity: As in a manifest.
        stages: The names of the pipeline's stages; other models are from outside.
    """
    plain = {part: value for part, value in identity.items() if part != "seed"}
    plain["inputs"] = dict.fromkeys(identity.get("inputs", {}))
    plain["models"] = {
        name: {k: v for k, v in of.items() if k not in _OF_ONE_SEED} if name in stages else of
        for name, of in identity.get("models", {}).items()
    }
    found: dict[str, Any] = json.loads(canonical_json(plain))
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Where two identities differ, in words: `setting sampling.temperature: 1.0 → 0.7`."""
    if old.get("stage") != new.get("stage"):
        return [f"stage kind changed: {old.get('stage')} → {new.get('stage')}"]
    found = []
    if old.get("version") != new.get("version"):
        found.append(f"version of {new['stage']}: {old.get('version')} → {new.get('version')}")
    if old.get("seed") != new.get("seed"):
        found.append(f"seed: {old.get('seed')} → {new.get('seed')}")
    before, after = _flat(old.get("settings", {})), _flat(new.get("settings", {}))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            found.append(f"setting {name}: {_short(before.get(name))} → {_short(after.get(name))}")
    for part in ("templates", "models", "sources", "inputs"):
        a, b = old.get(part, {}), new.get(part, {})
        changed = (name for name in sorted({*a, *b}) if a.get(name) != b.get(name))
        found += [f"{part.removesuffix('s')} {name} changed" for name in changed]
    return found


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat.update(_flat(inner, f"{prefix}.{name}" if prefix else str(name)))
    return flat


def _short(value: Any, limit: int = 40) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"
