"""`variables:` at the top of a pipeline file: constants that are offered to every template."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from llm_distill.errors import ConfigError
from llm_distill.prompts import load_template
from llm_distill.stage import Columns, Stage


def with_variables(
    stage: Stage, variables: Mapping[str, Any], inputs: Mapping[str, Columns]
) -> Stage:
    """The stage as if those of the pipeline's constants stood in it that its templates read.

    A stage that reads none of them stays as it is, and with it its fingerprint. Its own constants
    win, and so do the columns of its rows as far as they are known before a run.

    Args:
        stage: with or without a setting `variables`.
        variables: the pipeline's constants.
        inputs: the columns of what the stage reads, by the reference's value.
    """
    own = dict(stage).get("variables")
    if not variables or own is None:
        return stage
    read: set[str] = set()
    for template, offered in stage.template_variables(inputs).items():
        with suppress(ConfigError):  # not there or not readable: the graph's check says so
            read |= load_template(template).variables - (own.keys() if offered is None else offered)
    added = {name: value for name, value in variables.items() if name in read}
    return stage.model_copy(update={"variables": {**added, **own}}) if added else stage
