"""What is sent, how answers are read, and what an error means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_distill.engines.base import Completion, Request, SamplingSettings, StructuredOutput
from llm_distill.engines.openai.answers import (
    BadAnswerError,
    PassingError,
    Refusal,
    Verdict,
    judge,
    read_answer,
    read_refusal,
)
from llm_distill.engines.openai.exchange import Writing
from llm_distill.engines.openai.request import (
    fold_seed,
    most_prompt_tokens,
    request_body,
    sent_messages,
)

MESSAGES = [{"role": "user", "content": "2 + 2?"}]
TEXT = Request("a", "2 + 2?", SamplingSettings())
CHAT = Request("a", MESSAGES, SamplingSettings())
SCHEMA = {"type": "object"}


def judged(refusal: Refusal, request: Request) -> Verdict:
    return judge(refusal, Writing(request).fields(), request.structure is not None)


def test_defaults_are_sent_but_for_what_not_every_server_knows() -> None:
    common = {"model": "m", "max_tokens": 256, "temperature": 1.0, "top_p": 1.0, "seed": 0}
    assert request_body(TEXT, "m") == {**common, "prompt": "2 + 2?"}
    assert request_body(CHAT, "m") == {**common, "messages": MESSAGES}


def test_all_settings() -> None:
    sampling = SamplingSettings(temperature=0, top_p=0.5, top_k=3, max_tokens=7, stop=("\n", "b"))
    body = request_body(Request("a", "x", sampling, seed=5, logprobs=True), "m")
    assert body == {
        **{"model": "m", "prompt": "x", "max_tokens": 7, "temperature": 0, "top_p": 0.5},
        **{"top_k": 3, "stop": ["\n", "b"], "seed": 5, "logprobs": 1},
    }
    assert body["logprobs"] is not True  # a number here, and a flag for chat
    assert request_body(Request("a", MESSAGES, sampling, logprobs=True), "m")["logprobs"] is True


def test_a_budget_for_thoughts_is_sent_where_there_is_one() -> None:
    sampling = SamplingSettings(max_tokens=7, thinking_token_budget=0)
    for prompt in ("x", MESSAGES):
        asked = Request("a", prompt, sampling)
        assert request_body(asked, "m")["thinking_token_budget"] == 0
        assert "thinking_token_budget" not in request_body(asked, "m", ["thinking_token_budget"])


@pytest.mark.parametrize(
    ("structure", "field", "expected"),
    [
        (
            {"json_schema": SCHEMA},
            "response_format",
            {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            },
        ),
        ({"choice": ("yes", "no")}, "structured_outputs", {"choice": ["yes", "no"]}),
        ({"regex": "a+"}, "structured_outputs", {"regex": "a+"}),
    ],
)
def test_structure(structure: Any, field: str, expected: Any) -> None:
    request = Request("a", "x", SamplingSettings(), structure=StructuredOutput(**structure))
    assert request_body(request, "m")[field] == expected


def test_a_seed_has_31_bits_that_depend_on_all() -> None:
    assert fold_seed(12345) == 12345
    seeds = [fold_seed(1 << bit) for bit in range(64)]
    assert all(0 < seed < 2**31 for seed in seeds)
    assert fold_seed(2**64 - 1) < 2**31


def test_no_prompt_has_more_tokens_than_are_reckoned_with() -> None:
    assert most_prompt_tokens(Request("a", "ö" * 100, SamplingSettings())) >= 200
    assert most_prompt_tokens(Request("a", MESSAGES * 9, SamplingSettings())) >= 9 * 16
    plain = Request("a", "x", SamplingSettings())
    long = StructuredOutput(regex="a" * 500)
    structured = Request("a", "x", SamplingSettings(), structure=long)
    assert most_prompt_tokens(structured) >= most_prompt_tokens(plain) + 500


def answer(**choice: Any) -> bytes:
    whole = {"index": 0, "finish_reason": "stop", "text": "four", **choice}
    usage = {"prompt_tokens": 4, "completion_tokens": 2}
    return json.dumps({"choices": [whole], "usage": usage}).encode()


def test_a_good_answer_is_read() -> None:
    assert read_answer(TEXT, answer()) == (Completion("a", "four", "stop", 4, 2), True)
    chat = answer(message={"content": "fo", "refusal": None}, finish_reason="length")
    assert read_answer(CHAT, chat) == (Completion("a", "fo", "length", 4, 2), True)
    bare, is_known = read_answer(
        TEXT, b'{"choices": [{"text": "x", "finish_reason": "stop"}], "usage": null}'
    )
    assert (bare.text, is_known) == ("x", False)
    assert read_answer(TEXT, answer(text="\ud83d ü"))[0].text == "\ufffd ü"


def test_log_probabilities_of_both_forms() -> None:
    text = Request("a", "x", SamplingSettings(), logprobs=True)
    chat = Request("a", MESSAGES, SamplingSettings(), logprobs=True)
    given = answer(logprobs={"token_logprobs": [-1, -0.5], "tokens": ["a", "b"]})
    assert read_answer(text, given)[0].logprobs == (-1.0, -0.5)
    content = [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -0.5}]
    given = answer(message={"content": "x"}, logprobs={"content": content})
    assert read_answer(chat, given)[0].logprobs == (-1.0, -0.5)
    for bad in ({}, {"logprobs": None}, {"logprobs": {"token_logprobs": [None]}}):
        completion = read_answer(text, answer(**bad))[0]
        assert "logprob" in str(completion.error) or "log-prob" in str(completion.error)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"message": {"content": None}}, "content is empty (finish_reason stop)"),
        ({"message": {"content": " \n"}}, "content is empty"),
        ({"message": {"content": None}, "finish_reason": "tool_calls"}, "finish_reason tool_calls"),
        ({"message": {"content": [{"type": "thinking", "thinking": "x"}]}}, "content is empty"),
        ({"message": {"content": None, "refusal": "I cannot"}}, "the model refused: I cannot"),
        ({"message": {"content": "x"}, "finish_reason": "content_filter"}, "content_filter"),
        ({"message": {"content": 4}}, "content is 4, not str"),
        ({"message": {}}, "no content"),
        ({"message": None}, "message is None"),
        ({}, "no message"),
    ],
)
def test_an_answer_without_what_was_asked_for_is_a_bad_row(choice: Any, expected: str) -> None:
    completion, is_known = read_answer(CHAT, answer(**choice))
    assert (completion.text, completion.finish_reason) == ("", "error")
    assert (completion.n_prompt_tokens, completion.n_completion_tokens, is_known) == (4, 2, True)
    assert expected in str(completion.error)


@pytest.mark.parametrize(
    ("reason", "read"),
    [
        ("stop", "stop"),
        ("eos_token", "stop"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        (None, "stop"),
        (7, "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
    ],
)
def test_an_unknown_finish_reason_does_not_cost_the_text(reason: Any, read: str) -> None:
    completion, _ = read_answer(CHAT, answer(message={"content": "four"}, finish_reason=reason))
    assert (completion.text, completion.finish_reason, completion.error) == ("four", read, None)


def test_a_text_may_go_on_with_nothing() -> None:
    assert read_answer(TEXT, answer(text=""))[0] == Completion("a", "", "stop", 4, 2)
    assert "text is empty" in str(read_answer(TEXT, answer(text=None))[0].error)


def test_a_text_in_parts_is_joined_without_its_thoughts() -> None:
    parts = [
        {"type": "thinking", "thinking": "2 + 2"},
        {"type": "text", "text": "fo"},
        {"type": "text", "text": "ur"},
    ]
    done = read_answer(CHAT, answer(message={"content": parts}))[0]
    assert (done.text, done.reasoning) == ("four", "2 + 2")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_beside_the_answer_are_kept_apart(field: str) -> None:
    done = read_answer(CHAT, answer(message={"content": "four", field: "2 + 2"}))[0]
    assert (done.text, done.reasoning) == ("four", "2 + 2")
    done = read_answer(CHAT, answer(message={"content": "four", field: None}))[0]
    assert (done.text, done.reasoning) == ("four", None)
    done = read_answer(CHAT, answer(message={"content": None, field: "2 + 2"}))[0]
    assert "content is empty" in str(done.error)


def test_a_call_of_a_tool_is_an_answer_without_text() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    done = read_answer(CHAT, answer(message={"content": None, "tool_calls": [call]}))[0]
    read = {**call, "function": {"name": "f", "arguments": {"a": 1}}}
    assert (done.text, done.tool_calls, done.error) == ("", (read,), None)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        3,
        [],
        {"prompt_tokens": 4, "completion_tokens": None},
        {"prompt_tokens": 4.0, "completion_tokens": 2},
        {"prompt_tokens": True, "completion_tokens": 2},
        {"prompt_tokens": 4, "completion_tokens": -1},
        {"prompt_tokens": 4, "completion_tokens": 2**63},
        {"prompt_tokens": 10**400, "completion_tokens": 2},
    ],
)
def test_a_usage_that_makes_no_sense_is_unknown_and_the_text_is_kept(usage: Any) -> None:
    body = {"choices": [{"text": "four", "finish_reason": "stop"}], "usage": usage}
    completion, is_known = read_answer(TEXT, json.dumps(body).encode())
    assert completion == Completion("a", "four", "stop", 0, 0)
    assert not is_known


@pytest.mark.parametrize(
    ("body", "expected"), [({}, "no choices"), ({"choices": 3}, "choices is 3")]
)
def test_an_answer_of_another_shape_is_a_bad_row(body: Any, expected: str) -> None:
    completion, is_known = read_answer(TEXT, json.dumps(body).encode())
    assert not is_known
    assert expected in str(completion.error)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"choices": []}, None),
        ({"choices": [{"text": "", "finish_reason": "error"}]}, None),
        ({"error": {"message": "upstream is down"}}, 500),
        ({"error": {"message": "upstream is down", "code": 502}, "choices": []}, 502),
        ({"error": "slow down", "choices": None}, 500),
        ({"choices": [{"error": {"message": "upstream", "code": 429}, "text": ""}]}, 429),
    ],
)
def test_a_failure_in_an_answer_with_status_200_may_pass(body: Any, status: int | None) -> None:
    with pytest.raises(PassingError) as caught:
        read_answer(TEXT, json.dumps(body).encode())
    refusal = caught.value.refusal
    assert (refusal.status if refusal else None) == status
    assert refusal is None or judged(refusal, TEXT) == "retry"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff{}", b"[" * 100_000])
def test_what_is_no_json_object_is_said_with_its_beginning(body: bytes) -> None:
    with pytest.raises(BadAnswerError, match="JSON") as error:
        read_answer(TEXT, body)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '{"error": {"message": "a\\n b", "code": 400, "type": "Bad", "param": "top_p"}}',
            Refusal(400, "a b", "Bad", "top_p"),
        ),
        ('{"error": {"message": "a", "code": "c", "param": null}}', Refusal(400, "a", "c")),
        ('{"message": "a", "object": "error"}', Refusal(400, "a")),
        ('{"detail": "Not Found"}', Refusal(400, "Not Found")),
        ('{"error": "a"}', Refusal(400, "a")),
        (
            '{"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}',
            Refusal(400, '[{"loc": ["body", "seed"], "msg": "not permitted"}]', "", "seed"),
        ),
        (
            '{"object": "error", "message": {"detail": [{"loc": ["body", "seed"]}]}, "type": "x"}',
            Refusal(400, '{"detail": [{"loc": ["body", "seed"]}]}', "x", "seed"),
        ),
        (
            '{"error": {"message": "a", "details": [{"fieldViolations": [{"field": "top_p"}]}]}}',
            Refusal(400, "a", "", "top_p"),
        ),
        ('{"error": "a\\u001b[31m b"}', Refusal(400, "a [31m b")),
        ("plain", Refusal(400, "plain")),
        ("", Refusal(400, "(nothing)")),
    ],
)
def test_errors_of_several_servers_are_read(body: str, expected: Refusal) -> None:
    assert read_refusal(400, body.encode()) == expected


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (Refusal(408, ""), "retry"),
        (Refusal(429, ""), "retry"),
        (Refusal(429, "", "insufficient_quota"), "fatal"),
        (Refusal(500, ""), "retry"),
        (Refusal(529, ""), "retry"),
        (Refusal(401, ""), "fatal"),
        (Refusal(404, ""), "fatal"),
        (Refusal(405, ""), "fatal"),
        (Refusal(400, "maximum context length is 8", field="input_tokens"), "bad row"),
        (Refusal(400, "longer than the maximum model length of 8"), "bad row"),
        (Refusal(413, "too large"), "bad row"),
        (Refusal(400, "odd role", field="messages[0].role"), "bad row"),
        (Refusal(400, "out of range", field="temperature"), "fatal"),
        (Refusal(403, "forbidden"), "fatal"),
        (Refusal(403, "this one prompt was flagged", "moderation"), "bad row"),
        (Refusal(422, "x", field="seed"), "fatal"),
        (Refusal(422, "x", field="messages"), "bad row"),
        (Refusal(400, "Unrecognized request argument supplied: seed"), "fatal"),
        (Refusal(400, "Unsupported parameter: 'max_tokens' is not supported"), "fatal"),
        (Refusal(400, "the parameter 'colour' of the tool is odd"), "bad row"),
        (Refusal(400, "a schema"), "bad row"),  # none was asked for: it is the prompt's word
    ],
)
def test_what_an_error_means(refusal: Refusal, expected: str) -> None:
    assert judged(refusal, TEXT) == expected


def test_an_error_about_the_structure_that_was_asked_for_is_every_rows() -> None:
    structured = Request("a", "x", SamplingSettings(), structure=StructuredOutput(regex="(?<=a)b"))
    assert judged(Refusal(400, "Failed to compile the regex"), structured) == "fatal"
    assert judged(Refusal(400, "maximum context length; structured"), structured) == "bad row"


def test_fields_are_left_out_renamed_and_added() -> None:
    request = Request("a", "x", SamplingSettings(max_tokens=5), 3)
    body = request_body(
        request, "m", ["seed"], "max_completion_tokens", {"reasoning_effort": "low"}
    )
    assert "seed" not in body
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["reasoning_effort"]) == (5, "low")


def test_calls_and_results_without_ids_get_some() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    asked = {"role": "assistant", "content": "", "tool_calls": [call, {**call, "id": "c9"}]}
    result = {"role": "tool", "content": "1"}
    first, one, other, last = sent_messages(
        [asked, result, {**result, "tool_call_id": "c9"}, result]
    )
    assert [each["id"] for each in first["tool_calls"]] == ["call_0", "c9"]
    assert first["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert (one["tool_call_id"], other["tool_call_id"]) == ("call_0", "c9")
    assert "tool_call_id" not in last
    assert "id" not in call
