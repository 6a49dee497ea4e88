"""A model as stages, engines and trainers are given it, and how it is loaded.

Safe by default: safetensors only, and no code from a model repository is ever run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_distill.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PromptFormat = Literal["chat", "text"]
DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ModelSource:
    """Where a model's weights are and how it is spoken to.

    path: a directory as `save_pretrained` writes it, or a name on the Hub.
    adapters: PEFT directories, applied (and merged) in order on top of `path`.
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
    """Refuse a directory that has no weights, or only weights that could run code.

    Raises:
        ModelError: with what was found and what to do.
    """
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} is not a model directory: it has no config.json")
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(p.name for ending in ("*.bin", "*.pt", "*.pth") for p in path.glob(ending))
    if pickles:
        raise ModelError(
            f"{path} has pickle weights only ({', '.join(pickles)}), which can run code when "
            "loaded; save it again with model.save_pretrained(path, safe_serialization=True)"
        )
    raise ModelError(f"{path} has no weights: expected model.safetensors")


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
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model '{source.name}': no tokenizer at {source.path}: {error}"
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
    """The model on `device` in evaluation mode, its adapters merged into it.

    Raises:
        ModelError: it is not there, has no safetensors weights, or an adapter does not fit.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    _check(source)
    disable_progress_bar()  # a bar of its own for each file would tear ours
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.path,
            revision=source.revision,
            dtype=source.dtype,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"model '{source.name}' at {source.path}: {error}") from error
    for adapter in source.adapters:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"adapter {adapter} does not fit model '{source.name}' ({source.path}): {error}"
            ) from error
    loaded: PreTrainedModel = model.to(device).eval()
    return loaded


def _check(source: ModelSource) -> None:
    path = Path(source.path)
    if path.is_dir():
        check_model_dir(path)
