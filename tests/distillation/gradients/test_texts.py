"""Which tokens count, which texts are equal, and what is said of rows without one."""

from __future__ import annotations

from llm_distill.training.data import NO_LOSS, sft_example
from llm_distill.training.encoder import pair_encoder
from tests.distillation.gradients.by_hand import settings, texts_of


def test_the_tokens_that_training_has_in_its_loss(student, teacher, rows):
    """The teacher speaks chat, the student continues text."""
    for source in (student, teacher):
        pairs = pair_encoder(source, 1024)
        for row, text in zip(rows, texts_of(settings(), source, rows).all, strict=True):
            example = sft_example(*pairs.encode(row["prompt"], row["completion"]))
            assert text.ids.tolist() == example["input_ids"]
            labels = enumerate(example["labels"])
            assert text.places.tolist() == [i for i, label in labels if label != NO_LOSS]


def test_equal_texts_have_one_key_and_bad_rows_a_reason(student, rows):
    bad = [
        {**rows[0], "id": "empty", "completion": " "},
        {**rows[0], "id": "failed", "error": "the server failed"},
        {**rows[0], "id": "long", "completion": "and " * 500},
    ]
    twin = {**rows[0], "id": "twin"}
    other = {**rows[0], "id": "other", "prompt": "Who is it?\nAnswer:"}
    found = texts_of(settings(), student, [*rows[:2], twin, other, *bad])
    keys = found.keys
    assert keys[0] == keys[2]
    assert len({*keys[:4]}) == 3 == len(found.of)
    assert keys[4:] == [None] * 3
    assert found.errors == [None] * 4 + [
        "empty completion", "the server failed", "longer than the model's context",
    ]  # fmt: skip
    assert [text.name for text in found.all] == ["r0", "r1", "twin", "other"]
    assert found.reasons().startswith("1 empty completion, 1 the server failed")


def test_the_same_tokens_with_others_in_the_loss_are_another_text(teacher):
    turns = [
        {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann is very old."},
        {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "She is."},
    ]  # fmt: skip
    row = {"id": "a", "messages": turns}
    (one,), (last,) = (
        texts_of(settings(messages_column="messages", answers=answers), teacher, [row]).all
        for answers in ("all", "last")
    )
    assert one.ids.tolist() == last.ids.tolist()
    assert one.key != last.key
