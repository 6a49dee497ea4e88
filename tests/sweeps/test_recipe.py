"""What a run is known by before it begins is what its artifacts say after it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.fingerprint import without_earlier_stages
from llm_distill.runtime.resolve import Resolver
from tests.manifests import manifest

PIPELINES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("file", PIPELINES, ids=lambda path: path.stem)
def test_a_recipe_is_an_identity_without_seed_and_inputs(file: Path) -> None:
    try:
        pipeline = load_pipeline(str(file))
    except ConfigError:
        pytest.skip("it needs what is not here")
    resolver = Resolver(pipeline)
    for name in pipeline.stages:
        identity = json.loads(json.dumps(resolver.identity(name)))  # as in a manifest
        assert resolver.recipe(name) == without_earlier_stages(identity, pipeline.stages)
        digest = hashlib.sha256(name.encode()).hexdigest()
        resolver.ready[name] = Artifact(Path("/nowhere") / name, manifest(content_digest=digest))
