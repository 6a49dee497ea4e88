"""Which tokens of two tokenizers are the same."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from llm_distill.distillation.alignment.aligned import aligned
from llm_distill.distillation.alignment.shared import Kind, kinds, shared_tokens
from tests.distillation.encoders import bundled, byte_level, dummy_prefix, encoder


def names(of, tokens):
    return of.tokenizer.convert_ids_to_tokens(tokens.tolist())


def pairs_by_name(student, teacher, found):
    pairs = zip(names(student, found.same.student), names(teacher, found.same.teacher), strict=True)
    return dict(pairs)


def edges_by_name(student, teacher, edges):
    rows, columns = names(student, edges.student), names(teacher, edges.teacher)
    return dict(zip(zip(rows, columns, strict=True), edges.weights.tolist(), strict=True))


def test_tokens_are_the_same_by_their_bytes_whatever_they_are_called():
    """Ġa and ▁a; what ends a turn is paired, and special tokens of one name."""
    student, teacher = encoder(byte_level("Ġ a", "a t")), encoder(dummy_prefix())
    sizes = len(student.table.lengths), len(teacher.table.lengths)
    pairs = pairs_by_name(student, teacher, shared_tokens(student, teacher, sizes, projected=False))
    assert pairs["Ġa"] == "▁a"
    assert pairs["a"] == "a"
    assert pairs["!"] == "<0x21>"  # a byte that the teacher has no other token for
    assert pairs["<|end|>"] == "<|end|>"
    assert pairs["<|user|>"] == "<|user|>"
    assert "at" not in pairs


def test_ends_of_other_names_are_paired():
    student, teacher = encoder(byte_level("a b")), encoder(byte_level("b c"))
    end = teacher.tokenizer.convert_tokens_to_ids("<|user|>")
    teacher = replace(teacher, pairs=replace(teacher.pairs, ends=frozenset({end})))
    sizes = len(student.table.lengths), len(teacher.table.lengths)
    pairs = pairs_by_name(student, teacher, shared_tokens(student, teacher, sizes, projected=False))
    assert pairs["<|end|>"] == "<|user|>"
    assert pairs["<s>"] == "<s>"
    assert "<|user|>" not in pairs


def test_what_stands_for_a_token_of_one_side():
    student, teacher = encoder(byte_level("a b", "ab c", "d e")), encoder(byte_level("b c", "d f"))
    sizes = len(student.table.lengths), len(teacher.table.lengths)
    edges = shared_tokens(student, teacher, sizes, projected=True).edges
    found = edges_by_name(student, teacher, edges)
    assert found["a", "a"] == 1
    # abc is cut a | bc by the teacher; bc is cut b | c by the student, whose b has a partner.
    assert found["abc", "a"] == pytest.approx(1 / 1.1)
    assert found["abc", "bc"] == pytest.approx(0.1 / 1.1)
    assert not any(teacher == "df" for _, teacher in found)
    sums = edges.weights.new_zeros(sizes[0]).index_add(0, edges.student, edges.weights)
    assert sums.tolist() == pytest.approx([1.0] * sizes[0])


def test_where_a_text_begins_a_space_before_a_token_is_none_of_it():
    student, teacher = encoder(byte_level("Ġ a", "Ġa b"), "text"), encoder(byte_level("a b"))
    sizes = len(student.table.lengths), len(teacher.table.lengths)
    found = shared_tokens(student, teacher, sizes, Kind.STUDENT_SPACE, projected=True)
    pairs = pairs_by_name(student, teacher, found)
    assert (pairs["Ġa"], pairs["Ġab"]) == ("a", "ab")
    assert {"a", "b", "Ġ"}.isdisjoint(pairs)  # here, the teacher's a is the student's Ġa
    assert pairs["<|end|>"] == "<|end|>"
    edges = edges_by_name(student, teacher, found.edges)
    assert edges["Ġab", "ab"] == 1
    # The other way around, and where both have the space.
    mirrored = shared_tokens(teacher, student, sizes[::-1], Kind.TEACHER_SPACE, projected=False)
    assert pairs_by_name(teacher, student, mirrored) == {b: a for a, b in pairs.items()}
    same = shared_tokens(student, teacher, sizes, Kind.EQUAL, projected=False)
    assert pairs_by_name(student, teacher, same)["a"] == "a"


def test_the_kind_of_each_chunk():
    """Plain text begins with a space, after which a token may end; a chat does not."""
    turns = [{"role": "user", "content": "b"}, {"role": "assistant", "content": "a b a"}]
    text, split = encoder(byte_level("Ġ a"), "text"), encoder(byte_level("Ġ b"), "text")
    chat = encoder(byte_level("Ġ b"), "chat")
    expected = [
        (text, chat, Kind.STUDENT_SPACE),
        (split, chat, Kind.STUDENT_SPACE),
        (chat, text, Kind.TEACHER_SPACE),
        (text, split, Kind.EQUAL),
        (chat, chat, Kind.EQUAL),
    ]
    for student, teacher, kind in expected:
        rows = student.encode(turns), teacher.encode(turns)
        found = kinds(aligned(rows[1], rows[0]), *rows, (student, teacher)).tolist()
        assert found[0] == kind
        assert set(found[1:]) == {Kind.EQUAL}


def test_tokens_beyond_the_output_layer_do_not_count():
    student, teacher = encoder(byte_level("a b")), encoder(byte_level("a b"))
    n = len(student.table.lengths)
    found = shared_tokens(student, teacher, (n + 7, n - 1), projected=True)
    assert (found.same.n_student, found.same.n_teacher) == (n, n - 1)
    assert len(found.same.student) == n - 1
    assert found.edges.teacher.max() < n - 1


def test_of_two_byte_level_tokenizers_they_are_trls():
    from trl.experimental.gold.gold_trainer import ULDLoss

    student, teacher = bundled("tiny-student", "text"), bundled("tiny-teacher", "chat")
    sizes = len(student.table.lengths), len(teacher.table.lengths)
    found = shared_tokens(student, teacher, sizes, projected=False).same
    names = ("uld_crossentropy_weight", "uld_distillation_weight", "uld_student_temperature")
    names += ("uld_teacher_temperature", "uld_skip_student_eos", "uld_skip_teacher_eos")
    config = SimpleNamespace(
        **dict.fromkeys(names, 1.0),
        use_extended_uld=True,
        uld_token_merge_strategy="bayesian",
        uld_use_hybrid_loss=True,
    )
    theirs = ULDLoss(config, student.tokenizer, teacher.tokenizer)._vocab_mapping
    ours = dict(zip(found.teacher.tolist(), found.student.tolist(), strict=True))
    assert len(ours) == 542
    assert ours == theirs
