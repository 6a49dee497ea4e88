"""The loss across families of tokenizers, and of a conversation, against loops and dense logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.distillation.transfer.new_tokenizer import byte_tokenizer, tokenizer_with
from llm_distill.methods import chunk_loss as losses
from llm_distill.models.sources import ModelSource, PromptFormat, load_model
from llm_distill.stages.train_distill import TrainDistill
from tests.distillation import encoders, plain, tiny
from tests.methods import small_tokenizers as small
from tests.tiny_tokenizer import tiny_tokenizer

ONE_STEP = {"max_steps": 1, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
HARD = [
    {"id": f"h{i}", "prompt": "Say it:", "completion": text}
    for i, text in enumerate(
        [
            "naïve 日本語, 中文 and 한국어.",
            "👩‍👩‍👧 a 👍🏽 b 🏳️‍🌈",
            "line\r\nand line\r\n\r\n  a   c",
            "   two spaces\tand\u00a0one, before them  ",
            "e\u0301 日",
        ]
    )
]


def learnt() -> Any:
    """Byte-level BPE that has merged bytes of some characters, whole and in part."""
    return tiny_tokenizer([row["completion"] for row in HARD] * 3, 300)


def sentencepiece() -> Any:
    made = encoders.dummy_prefix()
    made.chat_template = encoders.PLAIN
    return made


def llama2() -> Any:
    made = small.sentencepiece_bpe("prepend")
    made.chat_template = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    return made


def transferred() -> Any:
    """What `transfer_tokenizer` makes for bytes."""
    return tokenizer_with(byte_tokenizer(), learnt(), "bytes")


def byt5() -> Any:
    made = small.byte_tokenizer()
    made.chat_template = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    return made


def model(folder: Path, make: Callable[[], Any], prompt_format: PromptFormat) -> ModelSource:
    """A random model with this tokenizer, in a folder of its name."""
    tokenizer = make()
    seed = len(make.__name__)
    tiny.save(folder / make.__name__, tokenizer, seed)
    return ModelSource(make.__name__, str(folder / make.__name__), prompt_format=prompt_format)


@pytest.fixture
def alm_of(run_stage, tmp_path):
    """The loss of one step over these rows, and how many chunks it is of."""

    def run(rows, teacher, student, **settings):
        named = {"stage": "train_distill", "model": "s", "teacher": "t", "rows": "r"}
        made = TrainDistill(**named, **ONE_STEP, on_collapse="ignore", **settings)
        folder = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        models = {"s": student, "t": teacher}
        found = run_stage(made, {"r": rows}, models=models, work_dir=folder)
        assert found.dropped == {}
        return found.metrics["history"][0]["alm"], found.metrics["alignment"]

    return run


@pytest.mark.parametrize(
    ("of_teacher", "of_student"),
    [
        ((learnt, "chat"), (sentencepiece, "text")),
        ((learnt, "text"), (llama2, "text")),
        ((learnt, "chat"), (transferred, "chat")),
        ((sentencepiece, "text"), (transferred, "text")),
        ((llama2, "chat"), (byt5, "chat")),
        ((sentencepiece, "chat"), (llama2, "chat")),
    ],
    ids=lambda one: " ".join(getattr(part, "__name__", part) for part in one),
)
def test_the_loss_is_that_of_loops_whatever_the_tokenizers(
    of_teacher, of_student, alm_of, scored, tmp_path
):
    teacher, student = (model(tmp_path, *one) for one in (of_teacher, of_student))
    # Merged, the chunks would be few: tokens of bytes are seldom sure to end.
    alm = {"temperature": 5.0, "gamma": 0.001}
    expected, n_chunks = plain.alm(HARD, teacher, student, load_model(student), **alm)
    found, figures = alm_of(scored(HARD, teacher), teacher, student, alm=alm)
    assert figures["n_chunks"] == n_chunks
    assert found == pytest.approx(expected.item(), rel=1e-4)
    found, figures = alm_of(HARD, teacher, student, alm={"debias": False}, online=True)
    expected, n_chunks = plain.alm(HARD, teacher, student, load_model(student), debias=False)
    assert figures["share_of_bytes"] == 1
    assert figures["n_chunks"] == n_chunks > 5 * len(HARD)
    assert found == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("of_student", [transferred, byt5])
def test_chunks_may_end_inside_of_characters(of_student, alm_of, tmp_path):
    """Where both sides cut a character into bytes: then the loss is of bytes that are no text."""
    row = HARD[4]
    teacher, student = (model(tmp_path, make, "chat") for make in (sentencepiece, of_student))
    sides = plain.side(teacher, row), plain.side(student, row)
    texts = [b"".join(sides[1].tokens[i] for i in own) for _, own, _ in plain.chunks(*sides)[:-1]]
    assert [text for text in texts if len(text) == 1 and text[0] > 0x7F] == [
        bytes([byte]) for byte in "\u0301日".encode()
    ]
    found, figures = alm_of([row], teacher, student, alm={"debias": False}, online=True)
    expected, n_chunks = plain.alm([row], teacher, student, load_model(student), debias=False)
    assert figures["n_chunks"] == n_chunks == len(row["completion"].encode()) + 1
    assert found == pytest.approx(expected.item(), rel=1e-4)


TALK = [
    {"role": "user", "content": "How old is Ann?"},
    {"role": "assistant", "content": "Ann is 21 years old."},
    {"role": "user", "content": "And Bob, is he very old?"},
    {"role": "assistant", "content": "Bob is very, very old: 28 years or so."},
]


def by_turn(source: ModelSource) -> list[dict[int, tuple[Any, Any]]]:
    """Of each answer: by the character after a token, Σ log p up to there, log p(boundary) there.

    From one dense forward pass over the whole conversation; at -1 stands its end token.
    """
    loaded = load_model(source)
    tokenizer = plain.pair_encoder(source, 999).tokenizer
    text = tokenizer.apply_chat_template(TALK, tokenize=False)
    given = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = given["input_ids"]
    with torch.no_grad():
        logps = loaded(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    special = tokenizer.all_special_tokens
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    boundary_tokens = torch.tensor([name in special or name[0] in "ĠĊĉ" for name in names])
    found = []
    for turn in TALK[1::2]:
        start = text.index("<|assistant|>" + turn["content"]) + len("<|assistant|>")
        end, total, ends = start + len(turn["content"]), 0.0, {}
        for place, (first, last) in enumerate(given["offset_mapping"]):
            if start <= first < last <= end:
                total += logps[place - 1, ids[place]].item()
                ends[last - start] = total, logps[place, boundary_tokens].exp().sum().log().item()
            elif first == end:
                ends[-1] = logps[place - 1, ids[place]].item(), None
        found.append(ends)
    return found


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("debias", [False, True])
def test_both_turns_of_a_conversation(
    online, debias, alm_of, scored, teacher, student, monkeypatch
):
    """C_T and C_S of each chunk, as the loss is given them."""
    given = []
    whole = losses.chunk_divergence

    def divergence(of_teacher, of_student, *rest):
        given.append((of_teacher.tolist(), of_student.tolist()))
        return whole(of_teacher, of_student, *rest)

    monkeypatch.setattr(losses, "chunk_divergence", divergence)
    student = replace(student, prompt_format="chat")
    rows = [{"id": "a", "messages": TALK}]
    if not online:
        rows = scored(rows, teacher, messages_column="messages")
    alm = {"debias": debias, "gamma": 0.0}
    alm_of(rows, teacher, student, alm=alm, online=online, messages_column="messages")
    expected = [[], []]
    n_of_turn = []
    for turns in zip(by_turn(teacher), by_turn(student), strict=True):
        shared = sorted(turns[0].keys() & turns[1].keys() - {-1})
        for sums, ends in zip(expected, turns, strict=True):
            before = 0.0
            for place in shared:
                total, log_pb = ends[place]
                sums.append(total - before + (log_pb if debias else 0))
                before = total
            sums.append(ends[-1][0])
        n_of_turn.append(len(shared) + 1)
    assert min(n_of_turn) > 5
    assert len(given) == 1
    for found, sums in zip(given[0], expected, strict=True):
        assert found == pytest.approx(sums, rel=1e-4, abs=1e-4)
    assert given[0][0] != pytest.approx(given[0][1], rel=1e-2)


def with_unmarked_end(source: ModelSource, directory: Path) -> ModelSource:
    """The model, with <|end|> as an added token like any other, that only its settings call an end.

    And with another token as its tokenizer's end of text, as models for chats often have it.
    """
    import json

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    loaded = load_model(source)
    tokenizer = plain.pair_encoder(source, 999).tokenizer
    layout = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in layout["added_tokens"]:
        token["special"] = token["content"] != "<|end|>"
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(layout)),
        eos_token="<|pad|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
    )
    made.chat_template = tokenizer.chat_template
    assert "<|end|>" not in made.all_special_tokens
    end = made.convert_tokens_to_ids("<|end|>")
    loaded.get_output_embeddings().weight.data[end] *= 3  # so that it is likely in some places
    loaded.generation_config.eos_token_id = [end]
    loaded.save_pretrained(directory)
    made.save_pretrained(directory)
    return ModelSource(source.name, str(directory), prompt_format="chat")


@pytest.mark.parametrize("unmarked", ["teacher", "student"])
@pytest.mark.parametrize("online", [False, True])
def test_an_end_token_that_is_not_special_is_in_b(
    unmarked, online, alm_of, scored, rows, teacher, student, tmp_path
):
    """Of scores, of a teacher in memory, and of the student that is trained."""
    student = replace(student, prompt_format="chat")
    named = {"teacher": teacher, "student": student}
    named[unmarked] = with_unmarked_end(named[unmarked], tmp_path / "unmarked")
    teacher, student = named["teacher"], named["student"]
    given = rows if online else scored(rows, teacher)
    found, figures = alm_of(given, teacher, student, online=online)
    expected, n_chunks = plain.alm(rows, teacher, student, load_model(student))
    assert found == pytest.approx(expected.item(), rel=1e-4)
    if not online:  # there they are counted before they are merged
        assert figures["n_chunks"] == n_chunks


def test_documents_with_an_end_inside_are_counted(alm_of, run_stage, teacher, student):
    papers = [
        {"id": "a", "text": "Ann is 21 years old. Bob is 28."},
        {"id": "b", "text": "Ann is 21 years old.<|end|>Bob is 28."},
    ]
    settings = {"text_column": "text", "online": True, **ONE_STEP}
    made = TrainDistill(stage="train_distill", model="s", teacher="t", rows="r", **settings)
    run = run_stage(made, {"r": papers}, models={"s": student, "t": teacher})
    assert run.dropped == {"end token inside the text": 1}
    assert run.metrics["n_rows"] == 1
