"""The losses there are between relations, and how many heads each compares."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from llm_distill.errors import ModelError

if TYPE_CHECKING:
    from llm_distill.distillation.relations.projections import Projections

Part = Literal["query", "key", "value"]
Heads = PositiveInt | dict[Part, PositiveInt] | None


@dataclass(frozen=True)
class RelationLoss:
    """Row t of the relation is softmax(x_t · yᵀ / √d): x of one projection, y of another.

    re_split: whether heads are split anew (MiniLMv2); otherwise they are the models' own.
    """

    name: str
    x: Part
    y: Part

    @property
    def re_split(self) -> bool:
        return self.x == self.y


ATTENTION_RELATION = RelationLoss("attention_relation", "query", "key")
"""MiniLM's (2002.10957, self-attention distribution transfer): by which the layer attends."""
QUERY_RELATION = RelationLoss("query_relation", "query", "query")
"""MiniLMv2's (2012.15828); likewise the next."""
KEY_RELATION = RelationLoss("key_relation", "key", "key")
VALUE_RELATION = RelationLoss("value_relation", "value", "value")
"""Of both (2002.10957, self-attention value-relation transfer)."""
LOSSES = {
    loss.name: loss for loss in (ATTENTION_RELATION, QUERY_RELATION, KEY_RELATION, VALUE_RELATION)
}


class RelationWeights(BaseModel):
    """The relations that are compared and how much each counts; what is not named is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attention_relation: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="of softmax(QKᵀ/√d), MiniLM's; as many heads on both sides, and no rotary "
        "positions",
    )
    query_relation: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of softmax(QQᵀ/√d), MiniLMv2's"
    )
    key_relation: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of softmax(KKᵀ/√d), MiniLMv2's"
    )
    value_relation: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of softmax(VVᵀ/√d), of both"
    )

    @model_validator(mode="after")
    def _one_at_least(self) -> RelationWeights:
        if not self.weights():
            raise ValueError("name one relation at least, such as {value_relation: 1.0}")
        return self

    def weights(self) -> dict[str, float]:
        """Those that are named, in a fixed order."""
        return {name: weight for name in LOSSES if (weight := getattr(self, name)) is not None}


def heads_of(loss: RelationLoss, asked: Heads, teacher: Projections, student: Projections) -> int:
    """How many heads a relation is compared by.

    asked: `relation_heads`; None: as many as the teacher's projection has.

    Raises:
        ModelError: they do not divide both widths, or MiniLM's own heads are not as many.
    """
    if not loss.re_split:
        if teacher.n_heads["query"] != student.n_heads["query"]:
            raise ModelError(
                f"losses.{loss.name} compares the models' own heads, and '{teacher.name}' has "
                f"{teacher.n_heads['query']}, '{student.name}' {student.n_heads['query']}; take "
                "query_relation and key_relation, which split them anew"
            )
        return teacher.n_heads["query"]
    wanted = asked.get(loss.x) if isinstance(asked, dict) else asked
    number = wanted or teacher.n_heads[loss.x]
    widths = {side.name: side.width[loss.x] for side in (teacher, student)}
    for name, width in widths.items():
        if width % number:
            common = gcd(*widths.values())
            allowed = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
            own = "" if wanted else " (the teacher's own heads, as relation_heads does not say)"
            raise ModelError(
                f"relation_heads: {number}{own} does not divide the {width} columns that the "
                f"{loss.x} projection of '{name}' has; allowed for {loss.name}: {allowed}"
            )
    return number
