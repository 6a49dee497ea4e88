"""`ld.load` and `ld.validate`: a pipeline file as a checked pipeline, or what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import PipelineConfig


def load(
    file: str | os.PathLike[str],
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> PipelineConfig:
    """Read and check a pipeline file.

    Args:
        file: A path, or the name of a shipped file, such as `pipelines/arte.yaml`.
        profile: A profile of the file, which is merged over it.
        overrides: Values over both: `{"stages.drafts.n": 5}` or `{"stages": {"drafts": {"n": 5}}}`.

    Returns:
        The pipeline, for `ld.plan` and `ld.run`.

    Raises:
        ConfigError: With every mistake that was found, each with its place.
    """
    return load_pipeline(os.fspath(file), profile=profile, overrides=overrides or {})


def validate(
    file: str | os.PathLike[str],
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[str]:
    """All mistakes of a pipeline file, each with its place; none if it is valid.

    The arguments are those of `load`.
    """
    try:
        load(file, profile=profile, overrides=overrides)
    except ConfigError as error:
        return list(error.problems) or [str(error)]
    return []
