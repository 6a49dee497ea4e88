"""`until` of a `repeat`: what ends its rounds."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Until(BaseModel):
    """Whichever comes first; `times` is the most rounds that there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    watch: str | None = Field(
        None,
        description="a stage of the round that measures what the round has trained, such as an "
        "evaluate; the round with the highest figure is `@best`",
    )
    column: str = Field(
        "is_correct", description="of its rows: the figure of an item, the higher the better"
    )
    no_gain: int | None = Field(
        None,
        ge=1,
        description="after so many rounds in a row that were not better, item by item, than the "
        "last that was: the 95 % interval of the difference is not above zero",
    )
    target: float | None = Field(None, description="once the figure's mean is as high")
    tokens: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {},
        description="by model: where another round like the last would make it write more tokens "
        "in all rounds together",
    )
    cost: float | None = Field(
        None,
        gt=0,
        description="where another round like the last would cost more in all, in the currency of "
        "the servers' price",
    )

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.watch is None and not self.tokens and self.cost is None:
            raise ValueError(
                "name what ends the rounds: watch (with no_gain, target), tokens, cost"
            )
        measured = [name for name in ("no_gain", "target") if getattr(self, name) is not None]
        if measured and self.watch is None:
            raise ValueError(f"{' and '.join(measured)}: of what? name a stage of the round: watch")
        return self
