"""The model that training starts from, and the directory that it ends in."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import GenerationConfig

from llm_distill.errors import ModelError, first_line
from llm_distill.models.files import readable_as_its_folder
from llm_distill.models.sources import ModelSource, load_model, own_tokenizer
from llm_distill.training.launch import own_device, whole_on_each_process

NOT_OF_GENERATION = {"transformers_version"}
NOT_SAFE = (".bin", ".pt", ".pth", ".pkl")

log = logging.getLogger("llm_distill")


@dataclass(frozen=True)
class Start:
    """A model to be trained, and its own configs, which trainers change (pad token and others)."""

    model: Any
    config: Any
    generation_config: Any


def training_source(source: ModelSource, *, full: bool) -> ModelSource:
    """`source` with the dtype that it is trained in.

    Weights that change are float32: at a usual learning rate a step is smaller than what bfloat16
    can tell apart, and float16 overflows (`bf16` computes in half precision all the same). So are
    weights that an earlier adapter is merged into. Weights that lie still under an adapter keep
    their dtype, but for `auto` on the CPU, which is slow at anything but float32.
    """
    import torch

    lies_still = not full and not source.adapters
    if lies_still and (source.dtype != "auto" or torch.cuda.is_available()):
        return source
    return replace(source, dtype="float32")


def load_start(source: ModelSource, quantization: Any = None) -> Start:
    """The model, its adapters merged, on the CPU; the trainer moves it.

    quantization: transformers' config for a base in few bits, which is put where it is trained.

    Raises:
        ModelError: its configs could not be saved again, which would lose what is trained.
    """
    model: Any = (
        load_model(source) if quantization is None else _load_quantized(source, quantization)
    )
    if quantization is None:
        model.requires_grad_(True)  # PEFT freezes what an adapter is merged into
    _make_storable(model.generation_config)
    with TemporaryDirectory() as folder:
        try:
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
        except ValueError as error:
            raise ModelError(
                f"model '{source.name}' ({source.path}) could not be saved again, because of its "
                f"config: {first_line(error)}"
            ) from error
    start = Start(model, copy.deepcopy(model.config), copy.deepcopy(model.generation_config))
    name_soft_cap(model)
    return start


def _load_quantized(source: ModelSource, quantization: Any) -> Any:
    """Its adapters are merged before, in float32: into few bits nothing can be added."""
    with TemporaryDirectory(prefix="llm-distill-") as folder:
        if source.adapters:
            merge_adapters(source, Path(folder) / "merged")
            source = replace(source, path=str(Path(folder) / "merged"), adapters=())
        return load_model(source, device=own_device(), quantization=quantization)


def name_soft_cap(model: Any) -> None:
    """TRL reads what caps the logits under Gemma 2's name only; RecurrentGemma has its own."""
    config = model.config.get_text_config(decoder=True)
    cap = getattr(config, "logits_soft_cap", None)
    if cap and not getattr(config, "final_logit_softcapping", None):
        config.final_logit_softcapping = cap


def reference_model(source: ModelSource) -> Any:
    """A second copy that stays as it is, with the source's adapters merged."""
    with whole_on_each_process():
        model = load_model(training_source(source, full=True))
    name_soft_cap(model)
    return model


def _make_storable(generation_config: Any) -> None:
    """Transformers loads settings of generation that it then refuses to save: these are mended.

    A temperature or top_p is refused without do_sample; who sets one means to sample. Of others the
    one that is refused is taken out, or else all but the special tokens.
    """
    if _is_storable(generation_config):
        return
    named = {name for name in vars(generation_config) if not name.startswith("_")}
    plain = {name: getattr(GenerationConfig(), name, None) for name in named - NOT_OF_GENERATION}
    changes: list[dict[str, Any]] = [{"do_sample": True}]
    changes += [{name: value} for name, value in sorted(plain.items())]
    changes += [{"do_sample": True, name: value} for name, value in sorted(plain.items())]
    changes += [{name: value for name, value in plain.items() if not name.endswith("_token_id")}]
    for change in [*changes, plain]:
        before = {name: getattr(generation_config, name) for name in change}
        if before == change:
            continue
        for name, value in change.items():
            setattr(generation_config, name, value)
        if _is_storable(generation_config):
            changed = {name: value for name, value in change.items() if before[name] != value}
            log.info("generation_config.json could not be saved again; set in it: %s", changed)
            return
        for name, value in before.items():
            setattr(generation_config, name, value)


def _is_storable(generation_config: Any) -> bool:
    try:
        generation_config.validate(strict=True)
    except ValueError:
        return False
    return True


def save_full(
    start: Start,
    source: ModelSource,
    directory: Path,
    tokenizer: Any | None = None,
    weights: Mapping[str, Any] | None = None,
) -> None:
    """A model directory: safetensors, configs as the model came with them, its tokenizer.

    tokenizer, weights (by name): in place of the model's own.
    """
    model = start.model
    model.config, model.generation_config = start.config, start.generation_config
    model.save_pretrained(str(directory), state_dict=weights)
    kept = own_tokenizer(source) if tokenizer is None else tokenizer
    kept.save_pretrained(str(directory))
    _only_safe(directory)


def save_classifier(
    model: Any, source: ModelSource, directory: Path, weights: Mapping[str, Any] | None = None
) -> None:
    """A model directory with the classes' names in its config. weights: as `save_full` takes it."""
    model.save_pretrained(str(directory), state_dict=weights)
    own_tokenizer(source).save_pretrained(str(directory))
    _only_safe(directory)


def save_encoder(model: Any, source: ModelSource, directory: Path) -> None:
    """A model directory without a head of any kind."""
    save_classifier(model, source, directory)


def save_adapter(
    peft_model: Any,
    source: ModelSource,
    directory: Path,
    weights: Mapping[str, Any] | None = None,
) -> None:
    """A PEFT adapter directory with the tokenizer.

    weights: all of the model's by name, in place of its own.

    PEFT notes where the base was loaded from; a path of this machine means nothing on another.
    """
    base = Path(source.path).name if source.is_local else source.path
    for config in peft_model.peft_config.values():
        config.base_model_name_or_path = base
        config.revision = source.revision
    write_adapter(peft_model, directory, weights)
    own_tokenizer(source).save_pretrained(str(directory))


def write_adapter(
    peft_model: Any, directory: Path, weights: Mapping[str, Any] | None = None
) -> None:
    """A PEFT adapter directory as it is, for a while; weights: by name, in place of its own."""
    # False: the vocabulary is as it was, and PEFT would ask the Hub to find that out.
    peft_model.save_pretrained(
        str(directory), save_embedding_layers=False, state_dict=weights and dict(weights)
    )
    _only_safe(directory)


def merge_adapters(source: ModelSource, directory: Path, dtype: str = "float32") -> None:
    """Write the model with its adapters added into its weights; it loads without PEFT.

    dtype: float32, bfloat16 or float16. The sum is computed in float32 and rounded only then.

    Raises:
        ModelError: the model has no adapter.
    """
    import torch

    if not source.adapters:
        raise ModelError(f"model '{source.name}' has no adapter to merge: it is whole already")
    start = load_start(replace(source, dtype="float32"))
    if dtype != "float32":
        start.model.to(getattr(torch, dtype))
        start.config.dtype = getattr(torch, dtype)
    directory.mkdir(parents=True, exist_ok=True)
    save_full(start, source, directory)


def _only_safe(directory: Path) -> None:
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's, empty but for a path
    for path in directory.iterdir():
        if path.suffix in NOT_SAFE:
            path.unlink()
    readable_as_its_folder(directory)
