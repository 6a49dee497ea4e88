"""Which tokens of two tokenizers are the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from llm_distill.distillation.alignment.shared import shared_tokens
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
    from dataclasses import replace

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
