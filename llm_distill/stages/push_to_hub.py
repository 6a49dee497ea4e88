"""Push rows or a model to the Hub, with a card.

in:  a stage's rows, or a model that a stage trained
out: {"id": "me/my-student", "repo_type": "model", "commit": "4d5e…",
      "url": "https://huggingface.co/me/my-student", "files": 8, "bytes": 1234567}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from llm_distill.errors import ConfigError, ModelError
from llm_distill.rows.conversation_forms import Form
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Stage, later_setting

BRANCH = r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"
COLUMNS = ("id", "repo_type", "commit", "url", "files", "bytes")


class PushToHub(Stage):
    """Creates or updates a repository on the Hub, private unless set otherwise, in one commit.

    The card is written from the manifests. The token is the Hub client's own (`hf auth login` or
    HF_TOKEN). Every run pushes; there is no commit if the repository is up to date.
    """

    is_repeated: ClassVar[bool] = True  # another push may have changed the repository since

    stage: Literal["push_to_hub"]
    rows: Rows | None = Field(None, description="the stage whose rows are pushed, as a dataset")
    model: Model | None = Field(None, description="or the stage whose model is pushed")
    repo_id: str = Field(description="NAMESPACE/NAME on the Hub")
    private: bool = Field(True, description="whether only its owners see a new repository")
    license: str | None = Field(
        None, description="the card's licence id; for a model, by default the base's"
    )
    revision: str | None = later_setting(
        None, "a branch of the repository, made if there is none; null: main", pattern=BRANCH
    )
    evaluations: tuple[Rows, ...] = Field(
        (), description="evaluations whose results the model's card shows"
    )
    conversation_form: Form | None = later_setting(
        None, "the form that conversations are written in; null: as they are in the rows"
    )

    @field_validator("repo_id")
    @classmethod
    def _check_repo_id(cls, value: str) -> str:
        from llm_distill.publish.push import check_repo_id

        return _valid(check_repo_id, value)

    @field_validator("license")
    @classmethod
    def _check_license(cls, value: str | None) -> str | None:
        from llm_distill.publish.licenses import check_license

        return None if value is None else _valid(check_license, value)

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.rows is None) == (self.model is None):
            raise ValueError("set either rows (pushes a dataset) or model")
        if self.rows is not None and self.evaluations:
            raise ValueError("evaluations: a dataset's card does not show any; remove it")
        if self.model is not None and self.conversation_form is not None:
            raise ValueError("conversation_form: a model has no conversations; remove it")
        return self

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def source_digests(self) -> dict[str, str]:
        """The Hub's address: stages before `--from` are not repeated, unless it is another Hub."""
        import os

        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
        return {"HF_ENDPOINT": endpoint} if endpoint else {}

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        from llm_distill.publish.cards import Origin
        from llm_distill.publish.lineage import read_lineage
        from llm_distill.publish.package import package
        from llm_distill.publish.push import check_can_push, push

        check_can_push()
        disable_progress_bars()  # one per file would break ours
        reference = self.rows or self.model
        assert reference is not None
        path = context.artifact(reference)
        if path is None:
            raise ModelError(f"model '{reference}' was not made by a stage of this pipeline")
        evaluations = [context.artifact(name) for name in self.evaluations]
        origin = Origin(
            lineage=read_lineage(path),
            evaluations=tuple(read_lineage(found) for found in evaluations if found is not None),
            pipeline=context.pipeline,
        )
        packed = package(
            origin,
            self.repo_id,
            self.license,
            context.work_dir / "package",
            conversation_form=self.conversation_form,
        )
        for warning in packed.warnings:
            context.warn(warning)
        for reason, count in packed.dropped.items():
            context.drop(reason, count)
        pushed = push(
            packed,
            self.repo_id,
            private=self.private,
            message="Push with llm-distill",
            revision=self.revision,
        )
        sizes = packed.sizes()
        row = {
            "id": self.repo_id,
            "repo_type": packed.repo_type,
            "commit": pushed.commit,
            "url": pushed.url,
            "files": len(sizes),
            "bytes": sum(sizes.values()),
        }
        kinds = {name: Value("string") for name in COLUMNS[:4]}
        return RowsOutput(
            [row], Features({**kinds, "files": Value("int64"), "bytes": Value("int64")})
        )


def _valid(check: Callable[[str], str], value: str) -> str:
    """A ValueError, to which Pydantic adds the place in the file."""
    try:
        return check(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error
