"""vLLM's server with and without adapters that are loaded while it serves, in its own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from aiohttp import web
from safetensors.torch import save_file

from tests.engines.loopback import Call, Loopback, answer_to


def write_adapter(folder: Path, value: float, rank: int = 8) -> str:
    """A plain one of one layer; value: of all its weights."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    layer = "base_model.model.layers.0.q_proj"
    tensors = {
        f"{layer}.lora_A.weight": torch.full((rank, 4), value),
        f"{layer}.lora_B.weight": torch.full((4, rank), value),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    return str(folder)


class AdapterServer(Loopback):
    """Answers `MODEL: echo PROMPT`, and 404 to a model that it does not list.

    fault: `updating` it was started without VLLM_ALLOW_RUNTIME_LORA_UPDATING, `lora` without
    --enable-lora, `blind` it sees no folder, `other` it has another model's weights, `hidden` it
    lists no adapter. most: its --max-lora-rank. said: what it was asked about adapters, in
    order. paths: of each that it has loaded.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.most = 64
        self.said: list[str] = []
        self.paths: dict[str, Path] = {}
        super().__init__()
        self.models = ["base"]
        self.answer = self._answer

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/load_lora_adapter", self._load)
        router.add_post("/v1/unload_lora_adapter", self._unload)

    async def _answer(self, call: Call) -> web.StreamResponse:
        model = call.body["model"]
        if model not in self.models:
            return _error(404, f"The model `{model}` does not exist.")
        return web.json_response(answer_to(call, f"{model}: echo {call.prompt}"))

    async def _load(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        name, path = body["lora_name"], Path(body["lora_path"])
        assert set(body) == {"lora_name", "lora_path"}  # load_inplace above all
        if self.fault == "updating":
            return web.json_response({"detail": "Not Found"}, status=404)
        if self.fault == "lora":
            return _error(500, "LoRA is not enabled. Use --enable-lora to enable LoRA.")
        if self.fault == "blind" or not (path / "adapter_model.safetensors").is_file():
            return _error(404, f"Loading lora {name} failed: No adapter found for {path}")
        if name in self.models:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        if rank > self.most:
            said = f"LoRA rank {rank} is greater than max_lora_rank {self.most}."
            return _error(500, said)
        if self.fault == "other":
            return _error(500, "While loading /x, expected target modules in [] but received [q]")
        self.said.append(f"load {name}")
        self.paths[name] = path
        if self.fault != "hidden":
            self.models.append(name)
        return web.Response(text="Success")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if name not in self.models:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        self.said.append(f"unload {name}")
        self.models.remove(name)
        return web.Response(text="Success")


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "E", "param": None, "code": status}
    return web.json_response({"error": error}, status=status)
