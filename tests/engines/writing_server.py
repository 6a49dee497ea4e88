"""vLLM's server as it writes with adapters, computed by plain forward passes of transformers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from aiohttp import web
from peft import PeftModel

from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from tests.engines.adapter_server import AdapterServer
from tests.engines.loopback import Call


class WritingServer(AdapterServer):
    """Continues tokens with its base model, or with an adapter laid over it.

    broken: prompts that begin with these tokens are refused, as one that is too long.
    """

    def __init__(self, source: ModelSource) -> None:
        self._source, self._tokenizer = source, load_tokenizer(source)
        self.broken: list[int] | None = None
        self._model = lru_cache(maxsize=2)(self._loaded)
        super().__init__()
        self.base = self.models[0]
        self.answer = self.written

    def _loaded(self, name: str) -> Any:
        model = load_model(self._source)
        if name != self.base:
            model = PeftModel.from_pretrained(model, str(self.paths[name]))
        return model.eval()

    async def written(self, call: Call) -> web.StreamResponse:
        body = call.body
        prompt = body["prompt"]
        ids = self._tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
        if self.broken is not None and ids[: len(self.broken)] == self.broken:
            error = {"message": "This model's maximum context length is 8 tokens", "code": 400}
            return web.json_response({"error": error}, status=400)
        model, generator = self._model(body["model"]), torch.Generator().manual_seed(body["seed"])
        said, logps, finish = [], [], "length"
        for _ in range(body["max_tokens"]):
            with torch.inference_mode():
                logits = model(torch.tensor([[*ids, *said]])).logits[0, -1]
            of_each = logits.log_softmax(-1)
            if body["temperature"]:
                tempered = (logits / body["temperature"]).softmax(-1)
                token = int(torch.multinomial(tempered, 1, generator=generator))
            else:
                token = int(of_each.argmax())
            said.append(token)
            logps.append(float(of_each[token]))
            text = self._tokenizer.decode(said, skip_special_tokens=True)
            if token == self._tokenizer.eos_token_id or any(
                stop in text for stop in body.get("stop", ())
            ):
                finish = "stop"
                break
        choice = {
            "index": 0,
            "text": self._tokenizer.decode(said, skip_special_tokens=True),
            "finish_reason": finish,
            "logprobs": {"token_logprobs": logps},
            "token_ids": said,
        }
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(said)}
        return web.json_response({"choices": [choice], "usage": usage})
