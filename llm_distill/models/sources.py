"""A model as stages, engines and trainers are given it, and how it is loaded.

Safe by default: safetensors only, and no code from a model repository is ever run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_distill.doing import doing
from llm_distill.errors import ModelError, first_line
from llm_distill.models.attention import Attention, attention
from llm_distill.models.causal import check_causal
from llm_distill.models.files import check_has_tokenizer, check_model_dir
from llm_distill.models.hub import cached_commit, cached_text, is_offline
from llm_distill.models.memory import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PromptFormat = Literal["chat", "text"]
SystemRole = Literal["refuse", "fold"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]

CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "context_length")
"""What configs call the most tokens that a model takes; MPT and RWKV have the last two."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model's weights are and how it is spoken to.

    Attributes:
        path: a directory as `save_pretrained` writes it, or a name on the Hub.
        adapters: PEFT directories, applied in order on top of `path`.
        prompt_format: `chat` renders through the chat template, `text` continues plain text.
        system_role: `fold` puts a system message before the first question, for a chat template
            that has no such role; `refuse` leaves it to the template.
        chat_template: text of a template in place of the model's own.
        today: the date that a chat template is given where it asks for the present one.
        attn_implementation: how attention is computed; None leaves it to `models.attention`.
        tokenizer: of a model on a server, whose `path` is its name there: where its tokenizer and
            its config are, if they are anywhere.
    """

    name: str
    path: str
    adapters: tuple[str, ...] = ()
    revision: str | None = None
    dtype: DType = "auto"
    prompt_format: PromptFormat = "chat"
    system_role: SystemRole = "refuse"
    today: date | None = None
    chat_template: str | None = None
    attn_implementation: Attention | None = None
    tokenizer: ModelSource | None = None

    @property
    def readable(self) -> ModelSource:
        """Where the tokenizer and the config are."""
        return self.tokenizer or self

    @property
    def is_local(self) -> bool:
        return Path(self.path).is_dir()


ASKS_FOR_DATE = "strftime_now"
"""What a chat template calls for the present date."""
TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json")


def asks_for_the_date(path: str, revision: str | None) -> bool:
    """Whether a model's chat template writes the present date into each prompt.

    A model of the Hub is asked by what was downloaded of it.
    """
    folder = Path(path)
    for name in TEMPLATE_FILES:
        if folder.is_dir():
            file = folder / name
            text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
        else:
            text = cached_text(path, name, revision)
        if text is not None and ASKS_FOR_DATE in text:
            return True
    return False


def load_tokenizer(source: ModelSource, *, is_alone: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer, left-padding, with a pad token (the end-of-text token where it has none).

    Args:
        source: the model it belongs to.
        is_alone: whether it may lie in a directory without weights.

    Raises:
        ModelError: there is none, or it has neither a pad nor an end-of-text token.
    """
    tokenizer: Any = own_tokenizer(source, is_alone=is_alone)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"model '{source.name}': its tokenizer has no pad and no eos token")
        tokenizer.pad_token = tokenizer.eos_token
    if not is_alone and tokenizer.pad_token_id >= _n_tokens(source):
        tokenizer.pad_token_id = 0  # any that the model has a row for: it is masked
    if source.prompt_format == "chat" and not tokenizer.chat_template:
        raise ModelError(
            f"model '{source.name}' ({source.path}) has no chat template; "
            "set prompt_format: text, or a chat_template, for it under models:"
        )
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def own_tokenizer(source: ModelSource, *, is_alone: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer as the model came with it, to be saved beside other weights.

    Args:
        source: the model it belongs to.
        is_alone: whether it may lie in a directory without weights.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    if is_alone and source.is_local:
        check_has_tokenizer(Path(source.path))
    else:
        check_source(source)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=False
        )
    except Exception as error:  # files of others: whatever the library makes of them
        raise ModelError(
            f"model '{source.name}': no tokenizer at {source.path}: {first_line(error)}"
        ) from error
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def load_model(
    source: ModelSource,
    *,
    device: str = "cpu",
    with_head: bool = True,
    quantization: Any = None,
) -> PreTrainedModel:
    """The model on `device` in evaluation mode, with its adapters.

    Args:
        source: where it is.
        device: where its weights are put.
        with_head: whether it gives logits; without its output layer it gives hidden states.
        quantization: transformers' config for weights in few bits, which take no adapter here.

    Raises:
        ModelError: it is not there, has no safetensors weights or not all that it needs, is not
            causal, or an adapter does not fit.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    check_source(source)
    load_quietly()
    kind = AutoModelForCausalLM if with_head else AutoModel
    if with_head and is_classifier(_text_config(source)):
        raise ModelError(
            f"model '{source.name}' ({source.path}) is a classifier, and writes nothing; ask it "
            "with classify"
        )
    way = attention(_text_config(source), source.attn_implementation, source.name)
    own: dict[str, Any] = {"attn_implementation": way} if way else {}
    if quantization is not None:
        own |= {"quantization_config": quantization, "device_map": {"": device}}
    model: Any
    try:
        with doing(f"load {source.name}"):
            model, loading = kind.from_pretrained(
                source.path,
                revision=source.revision,
                dtype=source.dtype,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **own,
            )
    except Exception as error:  # files of others: whatever the library makes of them
        if is_out_of_memory(error):
            raise
        raise ModelError(f"model '{source.name}' at {source.path}: {first_line(error)}") from error
    missing = sorted(loading["missing_keys"])
    if not with_head:  # what pools hidden states comes after them, and many encoders lack it
        missing = [name for name in missing if "pooler" not in name.split(".")]
    if missing:  # they would be random numbers
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(
            f"model '{source.name}' ({source.path}) has no weights for {missing[0]}{more}; is it a "
            f"{'causal language ' if with_head else ''}model of type {model.config.model_type}?"
        )
    if quantization is None:
        model = _with_adapters(model, source).to(device)
    else:
        _stay_trainable(model)
    loaded: PreTrainedModel = model.eval()
    if with_head:
        check_causal(loaded, source.name, source.path)
    return loaded


def is_classifier(config: Any) -> bool:
    """Whether a config is of a model with one logit a class, which writes nothing."""
    named = getattr(config, "architectures", None) or ()
    return any(str(name).endswith("ForSequenceClassification") for name in named)


def load_quietly() -> None:
    """Keep transformers' bars out of the terminal; what it reports goes into the stage's log."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # one a file would tear ours
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()


def _stay_trainable(model: Any) -> None:
    """Keep bitsandbytes from packing its weights, on some CPUs, the first time that a layer is used
    in evaluation: no gradient passes through it then.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


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
    for index, adapter in enumerate(source.adapters):
        name = f"adapter_{index}"
        try:
            if merge:
                adapted = PeftModel.from_pretrained(model, adapter)
                _untie_adapted_embedding(model)
                model = adapted.merge_and_unload()
            elif wrapped is None:
                wrapped = PeftModel.from_pretrained(model, adapter, adapter_name=name)
            else:
                wrapped.load_adapter(adapter, adapter_name=name)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"adapter {adapter} does not fit model '{source.name}' "
                f"({source.path}: {first_line(error)})"
            ) from error
    if wrapped is None:
        return model
    try:  # all at once: their updates add up
        wrapped.base_model.set_adapter(list(wrapped.peft_config), inference_mode=True)
    except ValueError as error:  # embeddings do not
        raise ModelError(
            f"the {len(source.adapters)} adapters of model '{source.name}' cannot be stacked "
            f"in half precision ({source.path}: {first_line(error)}); merge all but the last "
            "(merge_adapter), or set dtype: float32"
        ) from error
    return wrapped.get_base_model()


def _untie_adapted_embedding(model: Any) -> None:
    """Give the output layer weights of its own before an adapter of the embedding is merged.

    Where both share one matrix, the adapter was trained on one of its two uses: merged into the
    matrix it would change the other as well.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, BaseTunerLayer) or isinstance(head, BaseTunerLayer):
        return
    if head is None or head.weight is not embedding.get_base_layer().weight:
        return
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    for config in (model.config, model.config.get_text_config(decoder=True)):
        config.tie_word_embeddings = False


def choose_device(wanted: Device, setting: str) -> Literal["cpu", "cuda"]:
    """The device that is meant: `auto` takes the GPU where there is one.

    Args:
        wanted: the setting's value.
        setting: the setting's name, for the message.

    Raises:
        ModelError: a GPU is asked for, and there is none.
    """
    import torch

    there_is_one = torch.cuda.is_available()
    if wanted == "cuda" and not there_is_one:
        raise ModelError(f"{setting} is cuda, but there is no CUDA device; use auto or cpu")
    return "cuda" if there_is_one and wanted != "cpu" else "cpu"


def end_tokens(source: ModelSource, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a completion: those of the generation config, and the tokenizer's eos.

    Raises:
        ModelError: there is none, or the generation config is invalid.
    """
    from transformers import AutoConfig, GenerationConfig

    place = {"revision": source.revision} if source.revision else {}
    try:
        generation: Any = GenerationConfig.from_pretrained(source.path, **place)
    except OSError:  # not every model has one
        config = AutoConfig.from_pretrained(source.path, trust_remote_code=False, **place)
        generation = GenerationConfig.from_model_config(config)
    except ValueError as error:  # transformers does not load such a model
        raise ModelError(
            f"model '{source.name}' ({source.path}): generation_config.json: {first_line(error)}"
        ) from error
    declared = generation.eos_token_id
    listed = declared if isinstance(declared, list) else [declared]
    ends = frozenset(t for t in [*listed, tokenizer.eos_token_id] if t is not None)
    if not ends:
        raise ModelError(
            f"model '{source.name}' has no end-of-text token, so it cannot stop; "
            "set eos_token in its tokenizer_config.json"
        )
    return ends


def context_length(source: ModelSource) -> int:
    """Tokens that the model takes at most, as its config says.

    Raises:
        ModelError: it has no config that can be read.
    """
    config = _text_config(source)
    found = (getattr(config, name, None) for name in CONTEXT_NAMES)
    return next((length for length in found if isinstance(length, int) and length > 0), 10**9)


def _n_tokens(source: ModelSource) -> int:
    """Token ids that the model has a row for, as its config says."""
    return getattr(_text_config(source), "vocab_size", None) or 10**9


def saved_dtype(source: ModelSource) -> str:
    """The entry's dtype; `auto` is as saved, where vLLM would turn float32 into bfloat16.

    Raises:
        ModelError: it has no config that can be read.
    """
    if source.dtype != "auto":
        return source.dtype
    saved = str(_text_config(source).dtype).removeprefix("torch.")
    return saved if saved in ("float32", "bfloat16", "float16") else "auto"


def _text_config(source: ModelSource) -> Any:
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=False
        )
    except Exception as error:  # files of others: whatever the library makes of them
        raise ModelError(f"model '{source.name}' at {source.path}: {first_line(error)}") from error
    return config.get_text_config(decoder=True)


def check_source(source: ModelSource) -> None:
    """Raises:
    ModelError: it is not there, or its files are not safe to load.
    """
    if source.is_local:
        check_model_dir(Path(source.path))
        return
    if is_offline() and cached_commit("model", source.path, source.revision) is None:
        raise ModelError(
            f"model '{source.name}': '{source.path}' is not a directory and was never downloaded, "
            "and HF_HUB_OFFLINE is set"
        )
