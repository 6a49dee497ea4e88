"""A model as stages, engines and trainers are given it, and how it is loaded.

Safe by default: safetensors only, and no code from a model repository is ever run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_distill.errors import ModelError
from llm_distill.hub import cached_commit, is_offline

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PromptFormat = Literal["chat", "text"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "tokenizer_config.json",
)
MOST_HEADER = 100_000_000
"""Bytes; safetensors' own limit."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model's weights are and how it is spoken to.

    path: a directory as `save_pretrained` writes it, or a name on the Hub.
    adapters: PEFT directories, applied in order on top of `path`.
    prompt_format: `chat` renders through the chat template, `text` continues plain text.
    """

    name: str
    path: str
    adapters: tuple[str, ...] = ()
    revision: str | None = None
    dtype: DType = "auto"
    prompt_format: PromptFormat = "chat"

    @property
    def is_local(self) -> bool:
        return Path(self.path).is_dir()


def check_model_dir(path: Path) -> None:
    """Refuse a directory that cannot be loaded, or only by running code out of it.

    Cheap, so that `validate` can ask it: of the weights, only the tables of contents are read.

    Raises:
        ModelError: with what was found and what to do.
    """
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ModelError(
            f"{path} is a PEFT adapter, not a whole model; merge it into its base with "
            "merge_and_unload() and save that"
        )
    _read_json(path / "config.json", path)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{path} has no tokenizer: expected one of {', '.join(TOKENIZER_FILES)}")
    for index in path.glob("*.safetensors.index.json"):
        for shard in sorted(set(_read_json(index, path).get("weight_map", {}).values())):
            if not (path / shard).is_file():
                raise ModelError(f"{path} has no {shard}, which {index.name} names; copy it again")
    weights = sorted(path.glob("*.safetensors"))
    for file in weights:
        _check_whole(file)
    if weights:
        return
    pickles = sorted(p.name for ending in ("*.bin", "*.pt", "*.pth") for p in path.glob(ending))
    if pickles:
        raise ModelError(
            f"{path} has pickle weights only ({', '.join(pickles)}), which can run code when "
            "loaded; save it again with model.save_pretrained(path, safe_serialization=True)"
        )
    raise ModelError(f"{path} has no weights: expected model.safetensors")


def _read_json(file: Path, directory: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{directory} is not a model directory: it has no {file.name}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} is damaged: {error}; copy the model again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} is damaged: it holds no JSON object; copy the model again")
    return content


def _check_whole(file: Path) -> None:
    """A safetensors file is the length of its header, the header, then bytes up to its last offset.

    Raises:
        ModelError: it is no such file, or shorter or longer than its header says.
    """
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if length > min(file.stat().st_size, MOST_HEADER):
                raise ValueError("the header is longer than the file")
            header = json.loads(content.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        size, wanted = file.stat().st_size, 8 + length + max(ends, default=0)
        if size != wanted:
            raise ValueError(f"{size:,} bytes where its header says {wanted:,}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{file} is damaged or no safetensors file: {error}; copy the model again"
        ) from error


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer, left-padding, with a pad token (the end-of-text token where it has none).

    Raises:
        ModelError: there is none, or it has neither a pad nor an end-of-text token.
    """
    from transformers import AutoTokenizer

    _check(source)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=False, padding_side="left"
        )
    except Exception as error:  # files of others: whatever the library makes of them
        raise ModelError(
            f"model '{source.name}': no tokenizer at {_first_line(source.path, error)}"
        ) from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"model '{source.name}': its tokenizer has no pad and no eos token")
        tokenizer.pad_token = tokenizer.eos_token
    if source.prompt_format == "chat" and not tokenizer.chat_template:
        raise ModelError(
            f"model '{source.name}' ({source.path}) has no chat template; "
            "set prompt_format: text for it under models:"
        )
    return tokenizer


def load_model(source: ModelSource, *, device: str = "cpu") -> PreTrainedModel:
    """The model on `device` in evaluation mode, with its adapters.

    Raises:
        ModelError: it is not there, has no safetensors weights, or an adapter does not fit.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    _check(source)
    transformers_logging.disable_progress_bar()  # one a file would tear ours
    transformers_logging.disable_default_handler()  # what it reports goes into the stage's log
    transformers_logging.enable_propagation()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.path,
            revision=source.revision,
            dtype=source.dtype,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:  # files of others: whatever the library makes of them
        if is_out_of_memory(error):
            raise
        raise ModelError(f"model '{source.name}' at {_first_line(source.path, error)}") from error
    loaded: PreTrainedModel = _with_adapters(model, source).to(device).eval()
    return loaded


def _with_adapters(model: Any, source: ModelSource) -> Any:
    """The model with its adapters applied, merged where that loses nothing.

    The sum of a float32 weight and a small update is exact enough. In bfloat16 most updates of a
    usual learning rate are smaller than the distance to the next number and would be rounded away,
    so there the adapters stay beside the weights, as they were in training.
    """
    import torch
    from peft import PeftModel

    merge = model.dtype == torch.float32
    wrapped: Any = None
    for adapter in source.adapters:
        name = Path(adapter).name.replace(".", "_")
        try:
            if merge:
                model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
            elif wrapped is None:
                wrapped = PeftModel.from_pretrained(model, adapter, adapter_name=name)
            else:
                wrapped.load_adapter(adapter, adapter_name=name)
        except Exception as error:
            raise ModelError(
                f"adapter {adapter} does not fit model '{source.name}' "
                f"({_first_line(source.path, error)})"
            ) from error
    if wrapped is None:
        return model
    wrapped.base_model.set_adapter(list(wrapped.peft_config))  # all at once: their updates add up
    return wrapped.get_base_model()


def end_tokens(source: ModelSource, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a completion: those of the generation config, and the tokenizer's eos.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoConfig, GenerationConfig

    place = {"revision": source.revision} if source.revision else {}
    try:
        generation: Any = GenerationConfig.from_pretrained(source.path, **place)
    except OSError:  # not every model has one
        config = AutoConfig.from_pretrained(source.path, trust_remote_code=False, **place)
        generation = GenerationConfig.from_model_config(config)
    declared = generation.eos_token_id
    listed = declared if isinstance(declared, list) else [declared]
    ends = frozenset(t for t in [*listed, tokenizer.eos_token_id] if t is not None)
    if not ends:
        raise ModelError(
            f"model '{source.name}' has no end-of-text token, so it cannot stop; "
            "set eos_token in its tokenizer_config.json"
        )
    return ends


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is; on the CPU torch raises a RuntimeError that only its words tell apart."""
    import torch

    words = ("can't allocate memory", "not enough memory")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(word in str(error) for word in words)


def _check(source: ModelSource) -> None:
    if source.is_local:
        check_model_dir(Path(source.path))
        return
    if is_offline() and cached_commit("model", source.path, source.revision) is None:
        raise ModelError(
            f"model '{source.name}': '{source.path}' is no directory and was never downloaded, "
            "and HF_HUB_OFFLINE is set"
        )


def _first_line(path: str, error: Exception) -> str:
    """Where and why: libraries go on for paragraphs about what else might be the matter."""
    reason = str(error).strip().partition("\n")[0]
    return f"{path}: {reason or type(error).__name__}"
