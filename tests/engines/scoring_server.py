"""What vLLM's server answers where likelihoods are asked for, computed by transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from aiohttp import web

from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from tests.engines.loopback import Call


class ScoringServer:
    """An `Answer` for `Loopback`.

    tokenizer: of the server, where it is not the model's. most: its --max-logprobs. processed: its
    --logprobs-mode is processed_logprobs. cut: it keeps this many tokens of a prompt. silent: and
    does not tell how many. logits: in place of log-probabilities. last: what it says of a token
    that it writes.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        tokenizer: Any = None,
        most: int = 20,
        processed: bool = False,
        cut: int | None = None,
        silent: bool = False,
        logits: bool = False,
        last: float | None = None,
    ) -> None:
        self._model: Any = load_model(source)
        self._tokenizer = tokenizer or load_tokenizer(source)
        self._most, self._processed, self._cut = most, processed, cut
        self._silent, self._logits, self._last = silent, logits, last

    async def __call__(self, call: Call) -> web.StreamResponse:
        body = call.body
        wanted = max(body.get("logprobs") or 0, body.get("prompt_logprobs") or 0)
        if wanted > self._most:
            said = f"Requested sample logprobs of {wanted}, greater than max allowed: {self._most}"
            error = {"message": said, "param": "logprobs"}
            return web.json_response({"error": error}, status=400)
        ids = body["prompt"]
        if isinstance(ids, str):
            special = body.get("add_special_tokens", True)
            ids = self._tokenizer(ids, add_special_tokens=special)["input_ids"]
        if max(ids) >= self._model.config.vocab_size:
            return web.json_response({"error": {"message": "out of vocabulary"}}, status=400)
        return web.json_response(self._answer(body, ids[-self._cut :] if self._cut else ids))

    def _answer(self, body: dict[str, Any], ids: Sequence[int]) -> dict[str, Any]:
        with torch.inference_mode():
            logits = self._model(torch.tensor([ids])).logits[0]
            logprobs = logits + 100 if self._logits else logits.log_softmax(-1)
        choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length"}
        k = body.get("prompt_logprobs")
        if k is not None:
            places = zip(logprobs[:-1], ids[1:], strict=True)
            choice["prompt_logprobs"] = [None, *(_entries(at, own, k) for at, own in places)]
        if "allowed_token_ids" in body:
            (own,) = body["allowed_token_ids"]
            entries = _entries(logprobs[-1], own, body["logprobs"])
            named = {f"token_id:{token}": each["logprob"] for token, each in entries.items()}
            if self._processed or self._last is not None:
                named[f"token_id:{own}"] = self._last or 0.0
            choice["logprobs"] = {
                "tokens": [f"token_id:{own}"],
                "token_logprobs": [named[f"token_id:{own}"]],
                "top_logprobs": [named],
            }
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
        told = {} if self._silent else {"usage": usage}
        return {"object": "text_completion", "choices": [choice], **told}


def _entries(logprobs: torch.Tensor, own: int, k: int) -> dict[str, dict[str, float]]:
    top = logprobs.topk(k).indices.tolist() if k else []
    return {
        str(token): {"logprob": max(float(logprobs[token]), -9999.0)}
        for token in dict.fromkeys([own, *top])
    }
