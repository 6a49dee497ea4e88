"""Models with a head that gives one logit a class: how they are loaded and saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_distill.doing import doing
from llm_distill.errors import ModelError, first_line
from llm_distill.models.attention import attention
from llm_distill.models.memory import is_out_of_memory
from llm_distill.models.sources import (
    check_source,
    context_length,
    is_classifier,
    load_quietly,
    own_tokenizer,
)

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource

HEADS = ("score", "classifier", "classification_head", "pre_classifier", "pooler")
"""What the layers of a head are called in transformers; a model without one gets them at random."""

ONE, SEVERAL = "single_label_classification", "multi_label_classification"
"""transformers' names for how many labels a text has (`config.problem_type`)."""


def load_classifier(
    source: ModelSource,
    classes: Sequence[str] | None = None,
    *,
    several: bool = False,
    device: str = "cpu",
) -> Any:
    """The model in float32 with its head.

    Args:
        source: An encoder or decoder, or one that is a classifier already.
        classes: The names of the classes. A model that has the same ones, in whatever order, keeps
            its head, whose rows are put in this order; any other gets a new one, drawn by torch's
            seed. None: it must be a classifier.
        several: With classes: whether a text may have several of them, which its config says then.
        device: Where its weights are put.

    Raises:
        ModelError: it cannot be loaded, or is no classifier where it must be one.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    check_source(source)
    load_quietly()
    if source.adapters:
        raise ModelError(
            f"model '{source.name}' is an adapter, and a classifier starts from whole weights; "
            "merge it first (merge_adapter)"
        )
    place: dict[str, Any] = {"revision": source.revision, "trust_remote_code": False}
    try:
        config: Any = AutoConfig.from_pretrained(source.path, **place)
        names = class_names(config) if is_classifier(config) else None
        way = attention(config.get_text_config(), source.attn_implementation, source.name)
        place |= {"attn_implementation": way} if way else {}
        if classes is None and names is None:
            raise ModelError(
                f"model '{source.name}' ({source.path}) is no classifier; train one "
                "(train_classifier)"
            )
        if classes is not None and names != list(classes):
            place |= {
                "num_labels": len(classes),
                "id2label": dict(enumerate(classes)),
                "label2id": {name: index for index, name in enumerate(classes)},
                "ignore_mismatched_sizes": True,
            }
        with doing(f"load {source.name}"):
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                source.path,
                dtype="float32",
                use_safetensors=True,
                output_loading_info=True,
                **place,
            )
    except ModelError:
        raise
    except Exception as error:  # files of others: whatever the library makes of them
        if is_out_of_memory(error):
            raise
        raise ModelError(f"model '{source.name}' at {source.path}: {first_line(error)}") from error
    missing = [name for name in sorted(loading["missing_keys"]) if not _is_of_a_head(name)]
    if missing or (classes is None and loading["missing_keys"]):
        first = [*missing, *sorted(loading["missing_keys"])][0]
        raise ModelError(f"model '{source.name}' ({source.path}) has no weights for {first}")
    if classes is not None:
        if names is not None and len(names) == len(classes) and names != list(classes):
            _rename(model, names, classes)
        model.config.problem_type = SEVERAL if several else ONE
    return model.to(device)


def _rename(model: Any, before: Sequence[str], classes: Sequence[str]) -> None:
    """Put the rows of a head in the order of `classes`, or draw them anew if its names are others.

    transformers draws a head anew only where its size is another, and would give the weights of
    one class to another.
    """
    import torch

    from llm_distill.models.class_embeddings import output_layer

    layer = output_layer(model)
    if sorted(before) == sorted(classes):
        rows = [before.index(name) for name in classes]
        with torch.no_grad():
            for parameter in layer.parameters():  # the weight, and the bias where there is one
                parameter.copy_(parameter[rows])
        return
    for parameter in layer.parameters():
        parameter._is_hf_initialized = False  # what is marked as loaded is not drawn
    model._init_weights(layer)


def _is_of_a_head(name: str) -> bool:
    return any(part in HEADS for part in name.split("."))


def gives_several(config: Any) -> bool:
    """Whether the classes of a classifier do not exclude each other."""
    return bool(config.problem_type == SEVERAL)


def class_names(config: Any) -> list[str]:
    """In the order of the logits."""
    return [str(config.id2label[index]) for index in range(config.num_labels)]


def classifier_tokenizer(source: ModelSource) -> Any:
    """The tokenizer, padding on the right, with a pad token.

    Raises:
        ModelError: there is none, or it has neither a pad nor an end token.
    """
    tokenizer: Any = own_tokenizer(source)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"model '{source.name}': its tokenizer has no pad and no eos token")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def most_tokens(source: ModelSource, tokenizer: Any, max_length: int) -> int:
    """That a text may have: what is set, or what model or tokenizer take."""
    return int(min(max_length, context_length(source), tokenizer.model_max_length))
