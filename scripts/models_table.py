"""Which architectures work, and with what: writes the table of docs/models.md.

    python -m scripts.models_table            # all of them: a few minutes
    python -m scripts.models_table mamba opt  # only these, printed and not written

Every architecture is a random model of two small layers. A cell is ✓ only where figures agree:
texts and likelihoods with plain transformers, one row at a time, without padding or a cache of
ours; a training's first loss with the cross entropy that transformers computes; a merged model with
its adapter; a model moved to its own tokenizer with what it was. Why a cell is not is printed.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from peft import PeftModel

from llm_distill.engines.base import Request, SamplingSettings, ScoreRequest
from llm_distill.engines.transformers import decoding
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import LLMDistillError, ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from llm_distill.runtime.context import ModelInput, StageContext, StageInputs
from llm_distill.stage import ModelOutput, Progress, Stage
from llm_distill.stages.score_likelihood import ScoreLikelihood
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_sft import TrainSft
from llm_distill.tracking import TrackedRun
from llm_distill.training.encoder import pair_encoder
from llm_distill.training.weights import merge_adapters
from tests.tiny_tokenizer import tiny_tokenizer

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
PACKAGES = ("torch", "transformers", "trl", "peft")
CLOSE = 2e-3
"""The most that two figures may differ, as a share of the larger one."""

ROWS = [
    {"id": "a", "prompt": "How old is Ann?", "completion": "Ann is 21.", "rejected": "No."},
    {"id": "b", "prompt": "And Bob, who is her uncle?", "completion": "Bob is 40 years old.",
     "rejected": "He is old."},
    {"id": "c", "prompt": "Cem?", "completion": "9.", "rejected": "Cem is a boy of nine."},
]  # fmt: skip
ONE_STEP = {"max_steps": 1, "logging_steps": 1, "router_aux_loss_coef": 0.0}

# The sizes of most architectures.
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
STATE = {"state_size": 8, "initializer_range": 0.2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "mistral": SIZES | {"sliding_window": 8},
    "qwen2": SIZES,
    "qwen3": SIZES,
    "gemma": SIZES,
    "gemma2": SIZES | {"sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": SIZES | {"sliding_window": 8, "query_pre_attn_scalar": 8},
    "phi": SIZES,
    "phi3": SIZES,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.2},
    "gpt_neox": SIZES,
    "opt": SIZES | {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "falcon": {name: value for name, value in SIZES.items() if name != "head_dim"},
    "stablelm": SIZES,
    "olmo2": SIZES,
    "cohere": SIZES,
    "granite": SIZES | {"logits_scaling": 2.0},
    "mixtral": SIZES | EXPERTS,
    "qwen2_moe": SIZES
    | EXPERTS
    | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2} | STATE,
    "mamba2": {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8} | STATE,
    "falcon_mamba": {"hidden_size": 32, "num_hidden_layers": 2} | STATE,
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 128},
    "recurrent_gemma": SIZES
    | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8},
    "jamba": SIZES
    | {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
    "bamba": SIZES
    | {
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
        "mamba_d_state": 8,
        "attn_layer_indices": [1],
    },
    "bert": SIZES,
    "roberta": SIZES,
}


class Case:
    """One architecture: a tiny model of it in a folder, and a cell's check a method.

    A check returns the cell's text, and raises where figures differ.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        texts = [row[name] for row in ROWS for name in ("prompt", "completion", "rejected")]
        tokenizer = tiny_tokenizer(texts * 3, 320)
        torch.manual_seed(0)
        ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
        config = transformers.AutoConfig.for_model(
            kind, vocab_size=len(tokenizer), **ids, **ARCHITECTURES[kind]
        )
        for name in vars(config):
            if re.search("dropout|pdrop", name) and isinstance(getattr(config, name), float):
                setattr(config, name, 0.0)  # a training's loss would be another one
        model = transformers.AutoModelForCausalLM.from_config(config)
        model.save_pretrained(folder / "base")
        tokenizer.save_pretrained(folder / "base")
        self.source = ModelSource(kind, str(folder / "base"), prompt_format="text")
        self.encoder = pair_encoder(self.source, 128)
        self.plain = plain(folder / "base")
        self.adapter: ModelOutput | None = None

    def generate(self) -> str:
        tokenizer: Any = load_tokenizer(self.source)
        engine = TransformersEngine(self.source, TransformersSettings(device="cpu"))
        greedy = SamplingSettings(temperature=0, max_tokens=12)
        requests = [Request(row["id"], row["prompt"], greedy) for row in ROWS]
        found = {c.id: c.text for c in engine.generate(requests)}
        for row in ROWS:
            ids = tokenizer(row["prompt"], return_tensors="pt")["input_ids"]
            given = {"attention_mask": torch.ones_like(ids), "do_sample": False}
            wanted = plain(self.folder / "base").generate(ids, max_new_tokens=12, **given)
            text = tokenizer.decode(wanted[0, ids.shape[1] :], skip_special_tokens=True)
            same(found[row["id"]], text, "text")
        return WAYS[engine._fitting_decode]

    def score(self) -> str:
        engine = TransformersEngine(self.source, TransformersSettings(device="cpu"))
        pairs = {row["id"]: self.encoder.encode(row["prompt"], row["completion"]) for row in ROWS}
        asked = [ScoreRequest(name, head, tail) for name, (head, tail) in pairs.items()]
        for score in engine.score(asked):
            close(sum(score.logprobs), sum(self.logprobs(*pairs[score.id])), "engine")
        stage = ScoreLikelihood(stage="score_likelihood", model="m", rows="r")
        for row in self.run(stage, "score")[0]:
            wanted = sum(self.logprobs(*pairs[row["id"]]))
            close(float(sum(row["teacher_logps"])), wanted, "score_likelihood")
        return "✓"

    def sft(self) -> str:
        stage = TrainSft(stage="train_sft", model="m", rows="r", **ONE_STEP)
        close(self.run(stage, "sft")[1]["train_loss"], self.cross_entropy(), "loss")
        return "✓"

    def dpo(self) -> str:
        given = {"stage": "train_dpo", "model": "m", "rows": "r", "peft": None, **ONE_STEP}
        (point, *_) = self.run(TrainDpo.model_validate(given), "dpo")[1]["history"]
        for side, column in (("chosen", "completion"), ("rejected", "rejected")):
            pairs = [self.encoder.encode(row["prompt"], row[column]) for row in ROWS]
            wanted = sum(sum(self.logprobs(*pair)) for pair in pairs) / len(pairs)
            close(point[f"logps/{side}"], wanted, side)
        return "✓"

    def distill(self) -> str:
        losses = {"sft": 1.0, "alm": 1.0, "forward_kl": 1.0}
        given = {"stage": "train_distill", "model": "m", "teacher": "m", "rows": "r"}
        stage = TrainDistill.model_validate(
            {**given, "online": True, "losses": losses, "combine": "fixed", **ONE_STEP}
        )
        (point, *_) = self.run(stage, "distill")[1]["history"]
        close(point["sft"], self.cross_entropy(), "sft")
        for name in ("alm", "forward_kl"):  # its teacher is itself
            if abs(point[name]) > CLOSE:
                raise AssertionError(f"{name} is {point[name]}")
        return "✓"

    def lora(self) -> str:
        given = {"stage": "train_sft", "model": "m", "rows": "r", **ONE_STEP}
        peft = {"r": 4, "lora_alpha": 32, **NAMED.get(self.source.name, {})}
        stage = TrainSft.model_validate(
            {**given, "max_steps": 3, "learning_rate": 0.02, "peft": peft}
        )
        self.adapter = self.run(stage, "lora")[2]
        assert self.adapter is not None
        beside = PeftModel.from_pretrained(plain(self.folder / "base"), self.adapter.directory)
        adapted = logits(beside.eval())
        near(logits(load_model(self.adapted())), adapted, "merged in memory")
        if (adapted - logits(self.plain)).abs().max() < 1e-2:
            raise AssertionError("the adapter changes nothing")
        return "✓ named layers" if self.source.name in NAMED else "✓"

    def merge(self) -> str:
        merge_adapters(self.adapted(), self.folder / "merged")
        near(logits(plain(self.folder / "merged")), logits(load_model(self.adapted())), "merged")
        return "✓"

    def transfer(self) -> str:
        """To its own tokenizer: the text is as likely as it was."""
        from llm_distill.distillation.transfer.tokenizer_transfer import transfer_tokenizer

        transfer_tokenizer(self.source, self.source, self.folder / "moved", lambda said: None)
        moved = ModelSource("moved", str(self.folder / "moved"), prompt_format="text")
        encoder, model = pair_encoder(moved, 128), plain(self.folder / "moved")
        for row in ROWS:
            found = logprobs(model, *encoder.encode(row["prompt"], row["completion"]))
            pair = self.encoder.encode(row["prompt"], row["completion"])
            close(sum(found), sum(self.logprobs(*pair)), "likelihood")
        return "✓"

    def adapted(self) -> ModelSource:
        if self.adapter is None:
            raise ModelError("there is no adapter")
        return ModelSource("adapted", self.source.path, adapters=(str(self.adapter.directory),))

    def logprobs(self, head: list[int], tail: list[int]) -> list[float]:
        return logprobs(self.plain, head, tail)

    def cross_entropy(self) -> float:
        pairs = [self.encoder.encode(row["prompt"], row["completion"]) for row in ROWS]
        found = [logprob for pair in pairs for logprob in self.logprobs(*pair)]
        return -sum(found) / len(found)

    def run(
        self, stage: Stage, name: str
    ) -> tuple[list[dict[str, Any]], dict[str, Any], ModelOutput | None]:
        """The stage on the rows: its rows, its metrics and its model."""
        folder = self.folder / name
        (folder / "work").mkdir(parents=True)
        rows = [{**row, "chosen": row["completion"]} for row in ROWS]
        datasets.Dataset.from_list(rows).save_to_disk(str(folder / "rows"))
        inputs = StageInputs(
            seed=0,
            work_dir=folder / "work",
            store=folder / "store.sqlite",
            tracked=TrackedRun("table", "table", folder),
            rows={"r": folder / "rows"},
            models={"m": ModelInput(self.source, TransformersSettings())},
        )
        bar: Callable[..., Any] = lambda *_: nullcontext(NoBar())  # noqa: E731
        context = StageContext(inputs, lambda model: None, bar)  # type: ignore[arg-type, return-value]
        output = stage.run(context)
        if isinstance(output, ModelOutput):
            return [], context.metrics, output
        return list(output.rows), context.metrics, None


class NoBar(Progress):
    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None: ...


NAMED = {
    name: {"target_modules": ["in_proj", "x_proj"]} for name in ("mamba", "mamba2", "falcon_mamba")
}
"""PEFT refuses all-linear for these: some of their layers cannot have an adapter."""
WAYS: dict[decoding.Decode, str] = {
    decoding.decode_in_steps: "✓",
    decoding.decode_by_generate: "✓ by length",
    decoding.decode_alone: "✓ one by one",
}
COLUMNS = ("generate", "score", "sft", "dpo", "distill", "lora", "merge", "transfer")


def plain(folder: Path) -> Any:
    """The model as transformers loads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[5, 17, 40, 8, 99, 12]])).logits
    return found


def logprobs(model: Any, head: list[int], tail: list[int]) -> list[float]:
    """Of the tokens of `tail`, by one forward pass over one row."""
    ids = torch.tensor([[*head, *tail]])
    with torch.no_grad():
        found = model(ids).logits[0, len(head) - 1 : -1].log_softmax(-1)
    return [float(line[token]) for line, token in zip(found, tail, strict=True)]


def same(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} in place of {wanted!r}")


def close(found: float, wanted: float, what: str) -> None:
    if not abs(found - wanted) <= CLOSE * max(1.0, abs(wanted)):
        raise AssertionError(f"{what}: {found:.5f} in place of {wanted:.5f}")


def near(found: torch.Tensor, wanted: torch.Tensor, what: str) -> None:
    difference = float((found - wanted).abs().max())
    if not difference <= CLOSE * float(wanted.abs().max()):
        raise AssertionError(f"{what}: logits differ by {difference:.5f}")


def cells(kind: str) -> list[str]:
    """Of one architecture, in the order of COLUMNS."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        case = Case(kind, Path(folder))
        for column in COLUMNS:
            try:
                found.append(getattr(case, column)())
            except LLMDistillError as error:
                found.append("refused")
                print(f"  {kind}, {column}: refused: {error}", flush=True)
            except Exception as error:
                found.append("✗")
                said = str(error).partition("\n")[0]
                print(f"  {kind}, {column}: {type(error).__name__}: {said}", flush=True)
    return found


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(ARCHITECTURES)
    lines = [f"| | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for kind in chosen:
        lines.append(f"| `{kind}` | {' | '.join(cells(kind))} |")
        print(lines[-1], flush=True)
    if sys.argv[1:]:
        return
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    made = f"With {versions}, in float32 on a CPU:\n\n" + "\n".join(lines)
    page = PAGE.read_text(encoding="utf-8")
    between = re.compile(r"(<!-- table -->\n).*?(\n<!-- end -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda m: m[1] + made + m[2], page), encoding="utf-8")


if __name__ == "__main__":
    main()
