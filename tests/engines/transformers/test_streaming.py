"""Text that is said while it is written is what is said at the end."""

from __future__ import annotations

from pathlib import Path

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.transformers.streaming import Pieces
from llm_distill.models.sources import ModelSource

STUDENT = Path(__file__).parents[3] / "data/models/tiny-student"


def said_of(text: str, stops: tuple[str, ...]) -> list[str]:
    """What is said of a text that is written letter by letter, as UTF-8."""
    data, said = text.encode(), []
    pieces = Pieces(lambda tokens: bytes(tokens).decode(errors="replace"), {0}, stops, said.append)
    for end in range(1, len(data) + 1):
        pieces.heard(list(data[:end]))
    return said


def test_half_a_character_and_what_may_be_a_stop_are_held_back():
    assert said_of("aéb", ()) == ["a", "é", "b"]
    assert "".join(said_of("a\nQuest of\nQuestion: b", ("\nQuestion:",))) == "a\nQuest of"
    assert "\n" not in said_of("a\nQ", ("\nQuestion:",))[-1]


def test_a_stream_ends_as_the_completion():
    source = ModelSource("student", str(STUDENT), prompt_format="text")
    engine = TransformersSettings(kind="transformers").open(source, Budget(None))
    sampling = SamplingSettings(temperature=0, max_tokens=24, stop=("<ans>",))
    request = Request("a", "Question: Tom has 3 cups and 4 more.\nAnswer:", sampling)
    said: list[str] = []
    streamed = engine.stream(request, said.append)
    [whole] = engine.generate([request])
    assert streamed == whole
    assert "".join(said) == whole.text
    assert len(said) > 2
