"""score_student_fit with the bundled models, against forward passes over one row each."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llm_distill.distillation.student_fit.hidden import HiddenScorer
from llm_distill.distillation.student_fit.texts import bare_opening
from llm_distill.engines.base import Score, ScoreRequest
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import DataError, ModelError
from llm_distill.methods.student_fit import scas
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from llm_distill.stages.score_student_fit import ScoreStudentFit
from llm_distill.training.encoder import pair_encoder

Run = Callable[..., Any]

TEXT = ModelSource("student", "data/models/tiny-student", prompt_format="text")
CHAT = ModelSource("student", "data/models/tiny-student", prompt_format="chat")
FORMATS = pytest.mark.parametrize("source", [TEXT, CHAT], ids=["text", "chat"])
ROWS = [
    {"id": f"r{i}", "prompt": f"What is {i} + 2?", "completion": f"It is {i + 2}." + " Yes." * i}
    for i in range(5)
]
BAD = [
    {"id": "no answer", "prompt": "What?", "completion": " "},
    {"id": "no prompt", "prompt": None, "completion": "It is 4."},
    {"id": "long", "prompt": "What?", "completion": "and " * 5000},
]


@pytest.fixture
def fit(run_stage: Run) -> Run:
    def run(
        rows: list[dict[str, Any]],
        signal: str,
        source: ModelSource = TEXT,
        engine: Any = None,
        work_dir: Path | None = None,
        batch_size: int = 4,
        **settings: Any,
    ) -> Any:
        stage = ScoreStudentFit(
            stage="score_student_fit", rows="rows", model="student", signal=signal, device="cpu",
            **settings,
        )  # fmt: skip
        made = TransformersSettings(batch_size=batch_size, device="cpu")
        engines = {"student": lambda: engine or TransformersEngine(source, made)}
        models = {"student": source}
        return run_stage(stage, {"rows": rows}, models=models, engines=engines, work_dir=work_dir)

    return run


def plain(source: ModelSource, row: dict[str, Any], head: list[int] | None = None) -> Any:
    """Tokens before the answer, its own, and [tokens, vocabulary] log-probabilities of one pass."""
    before, tail = pair_encoder(source, 10**9).encode(row["prompt"], row["completion"])
    before = before if head is None else head
    with torch.inference_mode():
        logits = load_model(source)(torch.tensor([before + tail])).logits[0].float()
    return before, tail, logits.log_softmax(-1)


def surprisals(source: ModelSource, row: dict[str, Any], head: list[int] | None = None) -> Any:
    before, tail, logps = plain(source, row, head)
    return -logps[range(len(before) - 1, len(before) + len(tail) - 1), tail]


@FORMATS
def test_nll_is_that_of_the_trained_tokens_and_its_end_is_chosen(
    fit: Run, source: ModelSource
) -> None:
    low, high = (fit(ROWS, signal, source) for signal in ("nll_low", "nll_high"))
    for row, other, given in zip(low.rows, high.rows, ROWS, strict=True):
        wanted = surprisals(source, given)
        assert row["mean_nll"] == pytest.approx(wanted.mean().item(), abs=1e-4)
        assert row["n_tokens"] == len(wanted)
        assert row["score"] == -row["mean_nll"] == -other["score"]
        assert (row["metric"], other["metric"]) == ("nll_low", "nll_high")
        assert {name: row[name] for name in given} == given
    assert low.metrics["candidates_scored"] == low.metrics["forward_passes"] == 5
    assert low.metrics["tokens_scored"] == sum(row["n_tokens"] for row in low.rows)
    assert low.metrics["tokens_read"] > low.metrics["tokens_scored"]


@FORMATS
def test_rsr(fit: Run, source: ModelSource) -> None:
    for r_max in (100, 3, 10**6):
        for row, given in zip(fit(ROWS, "rsr", source, r_max=r_max).rows, ROWS, strict=True):
            before, tail, logps = plain(source, given)
            ranks, total = 0, 0.0
            for place, token in enumerate(tail, len(before) - 1):
                likelier = int((logps[place] > logps[place, token]).sum())
                ranks += min(r_max, 1 + likelier)
                total -= float(logps[place, token])
            assert row["mean_rank"] == pytest.approx(ranks / len(tail))
            assert row["score"] == pytest.approx(-ranks / total, rel=1e-4)
            assert row["metric"] == f"rsr_{r_max}"


@FORMATS
def test_ifd(fit: Run, source: ModelSource) -> None:
    opening = bare_opening(pair_encoder(source, 10**9)).ids
    assert opening
    run = fit(ROWS, "ifd", source)
    for row, given in zip(run.rows, ROWS, strict=True):
        alone = surprisals(source, given, opening).mean().item()
        ratio = surprisals(source, given).mean().item() / alone
        assert row["mean_nll_alone"] == pytest.approx(alone, abs=1e-4)
        assert row["ifd"] == pytest.approx(ratio, rel=1e-3)
        assert row["score"] == (row["ifd"] if row["ifd"] <= 1 else None)
    assert run.metrics["forward_passes"] == 10


@FORMATS
def test_scas(fit: Run, source: ModelSource) -> None:
    tokenizer: Any = load_tokenizer(source)
    special = {*tokenizer.all_special_ids, *pair_encoder(source, 10**9).ends}
    model: Any = load_model(source)
    outputs: list[torch.Tensor] = []
    model.model.layers[-1].mlp.up_proj.register_forward_hook(
        lambda *given: outputs.append(given[2])
    )
    run = fit(ROWS, "scas", source, prompt_weight=0.3, batch_tokens=64)
    for row, given in zip(run.rows, ROWS, strict=True):
        before, tail, logps = plain(source, given)
        ids = before + tail
        with torch.inference_mode():
            model(torch.tensor([ids]))
        unit = torch.nn.functional.normalize(outputs[-1][0], dim=1)
        q = [place for place in range(len(before)) if ids[place] not in special]
        a = [place for place in range(len(before), len(ids)) if ids[place] not in special]
        nll = -logps[range(len(before) - 1, len(ids) - 1), tail].mean().item()
        asked = [place for place in q if place]
        nll_prompt = -sum(logps[place - 1, ids[place]].item() for place in asked) / len(asked)
        own, other = (float((unit[a] @ unit[b].T).mean()) for b in (a, q))
        found = [row[n] for n in ("mean_nll", "mean_nll_prompt", "similarity", "similarity_prompt")]
        assert found == pytest.approx([nll, nll_prompt, own, other], abs=1e-4)
        assert row["score"] == pytest.approx(-scas(nll, nll_prompt, own, other, 0.3), rel=1e-3)
        assert row["n_tokens"] == len(tail)


def test_rows_that_cannot_be_scored_are_passed_on_and_counted(fit: Run) -> None:
    error = {**ROWS[0], "id": "failed", "error": "no answer"}
    rows = [BAD[0], *ROWS[:2], *BAD[1:], *ROWS[2:], error]
    for signal in ("nll_low", "ifd", "rsr", "scas"):
        run = fit([{"error": None, **row} for row in rows], signal)
        assert [row["id"] for row in run.rows] == [row["id"] for row in rows]
        for row in run.rows:
            if row["id"] in {"failed", *(bad["id"] for bad in BAD)}:
                assert row["score"] is None
                assert row["mean_nll"] is None
        reasons = run.metrics["unscored"]
        assert reasons.pop("IFD above 1", 0) == (
            sum(row["score"] is None and row["mean_nll"] is not None for row in run.rows)
        )
        assert reasons == {
            "empty completion": 1,
            "empty prompt": 1,
            "longer than the model's context": 1,
            "with an error": 1,
        }
        assert "of 9 candidates have no score: " in run.warnings[-1]
    with pytest.raises(DataError, match="no candidate of 'rows' has a score: 1 empty completion, "):
        fit(BAD, "rsr")
    assert fit(ROWS, "rsr", max_length=20).metrics["unscored"]["longer than max_length"] > 0


@pytest.mark.parametrize("signal", ["nll_low", "ifd", "rsr", "scas"])
def test_batch_padding_and_order_change_nothing(fit: Run, signal: str, tmp_path: Path) -> None:
    alone = {}
    for row in ROWS:
        try:
            (found,) = fit([row], signal, batch_size=1, work_dir=tmp_path / row["id"]).rows
        except DataError:  # its IFD is above 1
            found = {"score": None}
        alone[row["id"]] = found["score"]
    mixed = [dict(row) for row in ROWS]
    random.Random(3).shuffle(mixed)
    more = {"batch_tokens": 10**4} if signal == "scas" else {}
    for row in fit(mixed, signal, batch_size=5, **more).rows:
        wanted = alone[row["id"]]
        assert row["score"] == (wanted if wanted is None else pytest.approx(wanted, rel=1e-3))


class Told:
    """An engine that says of a token what a function does, whatever is before it."""

    def __init__(self, say: Callable[[int], tuple[float, int]]) -> None:
        self._say = say

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        for request in requests:
            assert not isinstance(request.completion, str)
            pairs = [self._say(token) for token in request.completion]
            yield Score(
                request.id,
                tuple(request.completion),
                tuple(logp for logp, _ in pairs),
                len(request.prompt),
                ranks=tuple(rank for _, rank in pairs) if request.ranks else (),
            )

    def close(self) -> None: ...


def test_ifd_is_1_for_a_model_that_ignores_the_question(fit: Run) -> None:
    engine = Told(lambda token: (-1.0 - token / 100, 1))
    for source in (TEXT, CHAT):
        for row in fit(ROWS, "ifd", source, engine).rows:
            assert (row["score"], row["ifd"]) == (1.0, 1.0)


def test_rsr_of_halving_probabilities_is_the_same_for_every_row(fit: Run) -> None:
    engine = Told(lambda token: (-(1 + token % 9) * math.log(2), 1 + token % 9))
    scores = [row["score"] for row in fit(ROWS, "rsr", TEXT, engine).rows]
    assert scores == pytest.approx([-1 / math.log(2)] * 5)


def test_a_text_without_surprise_has_no_ratio(fit: Run) -> None:
    """0 would be the best score of all."""
    for signal in ("rsr", "ifd"):
        with pytest.raises(DataError, match="5 no surprise"):
            fit(ROWS, signal, TEXT, Told(lambda token: (0.0, 1)))
    (row, *_) = fit(ROWS, "nll_low", TEXT, Told(lambda token: (0.0, 1))).rows
    assert row["score"] == 0


def test_what_an_engine_cannot_score_or_cuts(fit: Run) -> None:
    class Cutting(Told):
        def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
            for number, score in enumerate(super().score(requests)):
                if number == 1:
                    yield Score(score.id, error="it is too long")
                elif number == 3:
                    yield Score(
                        score.id, score.token_ids, score.logprobs, score.n_prompt_tokens - 1
                    )
                else:
                    yield score

    run = fit(ROWS, "nll_low", TEXT, Cutting(lambda token: (-1.0, 1)))
    assert [row["score"] for row in run.rows] == [-1, None, -1, None, -1]
    assert run.metrics["unscored"] == {"without a score of the engine": 2}
    assert run.warnings[0] == "row 'r1': the engine gives no score: it is too long"
    with pytest.raises(ModelError, match="model 'student' computes -inf for row 'r0'"):
        fit(ROWS, "nll_low", TEXT, Told(lambda token: (-math.inf, 1)))


def test_conversations_and_templates(fit: Run, tmp_path: Path) -> None:
    template = tmp_path / "ask.jinja"
    template.write_text("{{ hint }} {{ question }}\n")
    row = {"id": "a", "question": "2 + 2?", "rationale": "4.", "score": 3.0, "strategy": "long"}
    (found,) = fit(
        [row],
        "nll_low",
        prompt_template=str(template),
        variables={"hint": "Add."},
        completion_column="rationale",
    ).rows
    wanted = surprisals(TEXT, {"prompt": "Add. 2 + 2?", "completion": "4."}).mean().item()
    assert found["score"] == pytest.approx(-wanted, abs=1e-4)  # in place of another stage's
    talk = [
        {"role": role, "content": text}
        for role, text in zip(
            ["user", "assistant"] * 2, ["2 + 2?", "4.", "And 3?", "7."], strict=True
        )
    ]
    rows = [{"id": "a", "talk": talk}, {"id": "b", "talk": talk[:2]}]
    both, first = fit(rows, "nll_low", CHAT, messages_column="talk").rows
    assert both["n_tokens"] > first["n_tokens"]
    for signal in ("ifd", "scas"):
        run = fit(rows, signal, CHAT, messages_column="talk", answers="last")
        assert all(row["mean_nll"] is not None for row in run.rows)
        run = fit(rows, "scas", CHAT, messages_column="talk")
        assert run.metrics["unscored"] == {"more than one answer; set answers: last": 1}


class Cut(BaseException):
    """Stands for Ctrl-C."""


def test_scas_goes_on_where_it_was_killed(
    fit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_distill.distillation.teacher import windows

    monkeypatch.setattr(windows, "WINDOW_TOKENS", 30)
    passes, limit = [0], [10**9]
    whole = HiddenScorer._parts

    def counted(self: HiddenScorer, texts: Any) -> Any:
        if passes[0] == limit[0]:
            raise Cut
        passes[0] += 1
        return whole(self, texts)

    monkeypatch.setattr(HiddenScorer, "_parts", counted)
    wanted = fit(ROWS, "scas", work_dir=tmp_path / "whole").rows
    needed = passes[0]
    assert needed > 2
    passes[0], limit[0] = 0, needed - 1
    with pytest.raises(Cut):
        fit(ROWS, "scas", work_dir=tmp_path / "cut")
    passes[0], limit[0] = 0, 10**9
    assert fit(ROWS, "scas", work_dir=tmp_path / "cut").rows == wanted
    assert passes[0] == 1


def test_settings_of_another_signal_are_refused() -> None:
    base = {"stage": "score_student_fit", "rows": "rows", "model": "student"}
    for signal, name in (("ifd", "r_max"), ("rsr", "prompt_weight")):
        with pytest.raises(ValidationError, match=f"{name} is a setting of signal"):
            ScoreStudentFit(**base, signal=signal, **{name: 1})
    with pytest.raises(ValidationError, match="exclude each other"):
        ScoreStudentFit(**base, signal="ifd", messages_column="m", completion_column="c")


def test_scas_says_what_layer_is_missing(fit: Run, tmp_path: Path) -> None:
    from dataclasses import replace

    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = load_tokenizer(TEXT)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=96, n_embd=32, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="of type gpt2, which has no mlp.up_proj"):
        fit(ROWS, "scas", replace(TEXT, path=str(tmp_path)))
