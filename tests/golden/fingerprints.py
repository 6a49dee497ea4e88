"""What identifies the stages and models of pipelines, without running any of them.

A stage's fingerprint needs the digests of its inputs, which only a run knows. Here each input has a
digest made of its name, so that a fingerprint changes just where an identity does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from llm_distill.digests import fingerprint
from llm_distill.pipeline.load import load_pipeline, profile_names
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.resolve import Resolver
from llm_distill.stage import references
from tests.manifests import manifest


def identities(file: str) -> dict[str, dict[str, str]]:
    """By profile ("" for none): each stage's fingerprint, and each model's as a writer of text."""
    return {name: _of_profile(file, name) for name in ("", *profile_names(file))}


def _of_profile(file: str, profile: str) -> dict[str, str]:
    resolver = Resolver(load_pipeline(file, profile=profile or None))
    found: dict[str, str] = {}
    for name, stage in resolver.pipeline.stages.items():
        found[name] = fingerprint(resolver.identity(name))
        resolver.ready[name] = _stand_in(name)
        for _, target, kind in references(stage):
            if kind == "model":
                found[f"model {target}"] = fingerprint(resolver.writer_identity(target)[0])
    return found


def _stand_in(name: str) -> Artifact:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Artifact(Path("/nowhere") / name, manifest(content_digest=digest))
