"""Scores against a forward pass over each row alone, whole and unpadded, token by token."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder, in_loss, row_encoder
from llm_distill.distillation.teacher.scoring import TeacherScorer, batches
from llm_distill.engines.base import ScoreRequest
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model

CHAT = ModelSource("teacher", "data/models/tiny-teacher")
TEXT = ModelSource("student", "data/models/tiny-student", prompt_format="text")
ASKED = [
    ("What is 2 + 2?", "It is 4. <ans>4</ans>"),
    ("A farmer has twelve apples and gives five of them away. How many are left?", "Seven"),
    (
        "Say it.",
        "One, two, three,\nfour, five … \tsix — seven; and so it goes on\n\nuntil it ends.",
    ),
    ("What is 3 + 4?", "7"),
]


@pytest.fixture(scope="module", params=[CHAT, TEXT], ids=["chat", "text"])
def source(request: pytest.FixtureRequest) -> ModelSource:
    found: ModelSource = request.param
    return found


def turns(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def encoded(encoder: RowEncoder) -> list[EncodedRow]:
    rows = [encoder.encode(turns(*pair)) for pair in ASKED]
    rows.append(encoder.encode("A document. All of it counts, it has no prompt."))
    if encoder.pairs.prompt_format == "chat":
        rows.append(encoder.encode([*turns(*ASKED[0]), *turns(*ASKED[1])]))
    return rows


def scorer(source: ModelSource, encoder: RowEncoder, **more: Any) -> TeacherScorer:
    return TeacherScorer(source, encoder, **{"batch_tokens": 8192, "device": "cpu"} | more)


def names(rows: list[EncodedRow]) -> list[str]:
    return [f"r{index}" for index in range(len(rows))]


def brute_force(source: ModelSource, encoder: RowEncoder, row: EncodedRow) -> tuple[Any, Any]:
    """Of the tokens in the loss: their log-probability, and log Σ p(v) over v in B after them."""
    tokenizer = encoder.tokenizer
    spelled = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    b = [i for i, piece in enumerate(spelled)
         if piece[0] in "ĠĊĉ" or piece in tokenizer.all_special_tokens]  # fmt: skip
    with torch.inference_mode():
        logits = load_model(source)(torch.tensor(row.ids[None].astype(np.int64))).logits[0]
    logps = logits.double().log_softmax(-1)
    places = [p for c in row.contents for p in range(c.start, c.end + c.is_closed)]
    return (
        [logps[p - 1, row.ids[p]].item() for p in places],
        [sum(logps[p, v].exp() for v in b).log().item() for p in places],  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("batch_tokens", [8192, 70, 1])  # at once, some together, one by one
def test_scores_are_those_of_a_plain_forward_pass(source: ModelSource, batch_tokens: int) -> None:
    encoder = row_encoder(source, None)
    rows = encoded(encoder)
    given = scorer(source, encoder, batch_tokens=batch_tokens).score(rows, names(rows))
    for row, scores in zip(rows, given, strict=True):
        logps, boundary_logps = brute_force(source, encoder, row)
        assert scores["teacher_logps"].dtype == scores["teacher_log_pbs"].dtype == np.float32
        np.testing.assert_allclose(scores["teacher_logps"], logps, atol=1e-4)
        np.testing.assert_allclose(scores["teacher_log_pbs"], boundary_logps, atol=1e-4)


def test_the_order_does_not_change_a_score() -> None:
    encoder = row_encoder(CHAT, None)
    rows = [encoder.encode(turns(f"{i}: {q}", a)) for i in range(3) for q, a in ASKED]
    first = scorer(CHAT, encoder, batch_tokens=200, top_k=5).score(rows, names(rows))
    order = list(range(len(rows)))
    random.Random(1).shuffle(order)
    again = scorer(CHAT, encoder, batch_tokens=150, top_k=5).score(
        [rows[i] for i in order], names(rows)
    )
    for index, scores in zip(order, again, strict=True):
        for name, values in scores.items():
            np.testing.assert_allclose(values, first[index][name], atol=1e-4)


def test_sums_are_those_of_the_engine(source: ModelSource) -> None:
    """Without the end token, which the engine is not given."""
    from llm_distill.engines.transformers.engine import TransformersEngine

    encoder = row_encoder(source, None)
    rows = [encoder.encode(turns(*pair)) for pair in ASKED]
    given = scorer(source, encoder).score(rows, names(rows))
    engine = TransformersEngine(source, TransformersSettings(device="cpu"))
    for (prompt, _), row, scores in zip(ASKED, rows, given, strict=True):
        start, end = row.contents[0].start, row.contents[0].end
        asked = turns(prompt, "")[:1] if source.prompt_format == "chat" else prompt
        text = encoder.tokenizer.decode(row.ids[start:end])
        (found,) = engine.score([ScoreRequest("r", asked, text)])
        assert list(found.token_ids) == row.ids[start:end].tolist()
        assert sum(found.logprobs) == pytest.approx(scores["teacher_logps"][:-1].sum(), abs=1e-3)


def test_the_likeliest_tokens_stand_flat_after_one_another() -> None:
    encoder = row_encoder(CHAT, None)
    rows = encoded(encoder)
    model = load_model(CHAT)
    for row, scores in zip(rows, scorer(CHAT, encoder, top_k=4).score(rows, names(rows)),
                           strict=True):  # fmt: skip
        with torch.inference_mode():
            logits = model(torch.tensor(row.ids[None].astype(np.int64))).logits[0]
        top = logits.log_softmax(-1)[in_loss(row) - 1].topk(4)
        assert scores["teacher_top_ids"].dtype == np.int32
        assert scores["teacher_top_ids"].tolist() == top.indices.flatten().tolist()
        np.testing.assert_allclose(scores["teacher_top_logps"], top.values.flatten(), atol=1e-4)


def test_batches_are_of_like_length_and_no_larger_than_allowed() -> None:
    lengths = [5, 40, 7, 7, 100, 1]
    assert batches(lengths, 21) == [[4], [1], [2, 3, 0], [5]]
    assert batches([], 21) == []


def test_a_score_that_is_no_number_names_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = row_encoder(CHAT, None)
    rows = [encoder.encode(turns(*pair)) for pair in ASKED]
    broken = scorer(CHAT, encoder)
    whole = broken._backbone.forward
    longest = max(range(len(rows)), key=lambda index: len(rows[index].ids))

    def forward(**given: Any) -> Any:
        output = whole(**given)
        output.last_hidden_state[0, -2] = torch.nan  # of the longest, which comes first
        return output

    monkeypatch.setattr(broken._backbone, "forward", forward)
    with pytest.raises(ModelError, match=f"'teacher' computes nan for row 'r{longest}'"):
        broken.score(rows, names(rows))


def test_what_the_model_does_not_have_is_an_error() -> None:
    encoder = row_encoder(CHAT, None)
    row = encoder.encode(turns(*ASKED[0]))
    beyond = EncodedRow(np.append(row.ids, 50_000).astype(np.int32), row.contents)
    with pytest.raises(ModelError, match="token 50000 of row 'b' is not among"):
        scorer(CHAT, encoder).score([row, beyond], ["a", "b"])
    with pytest.raises(ModelError, match="top_k is 100000, but model 'teacher' has"):
        scorer(CHAT, encoder, top_k=100_000)


def test_too_little_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = row_encoder(CHAT, None)
    small = scorer(CHAT, encoder)

    def forward(**given: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(small._backbone, "forward", forward)
    with pytest.raises(ModelError, match=r"1 rows of up to \d+ tokens; lower batch_tokens \(now 8"):
        small.score([encoder.encode(turns(*ASKED[0]))], ["a"])
