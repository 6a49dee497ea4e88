"""A training's adapter settings as PEFT's LoraConfig, checked against the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from llm_distill.errors import ModelError

if TYPE_CHECKING:
    from llm_distill.training.settings import TrainingSettings


Task = Literal["CAUSAL_LM", "SEQ_CLS"]


def lora_config(settings: TrainingSettings, model: Any, task: Task = "CAUSAL_LM") -> Any:
    """PEFT's LoraConfig for a model, or None for full fine-tuning.

    task: PEFT's name; with SEQ_CLS a classifier's head is trained whole.
    """
    if settings.peft is None:
        return None
    from peft import LoraConfig

    values = settings.peft.model_dump()
    wholly = list(values.pop("modules_to_save"))
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    _check_trained_whole(wholly, model)
    if values.pop("train_embeddings"):
        is_tied = head.weight is embedding.weight
        wanted = (embedding,) if is_tied else (embedding, head)
        names = [n.rpartition(".")[2] for n, module in model.named_modules() if module in wanted]
        values |= {"modules_to_save": [*names, *wholly], "ensure_weight_tying": is_tied}
    elif wholly:
        values["modules_to_save"] = wholly
    values["target_parameters"] = list(values["target_parameters"]) or None
    if not isinstance(values["target_modules"], str):
        values["target_modules"] = list(values["target_modules"])
    config = LoraConfig(task_type=task, **values)
    _check_not_on_the_output_layer(config, model)
    return config


def _check_trained_whole(names: Sequence[str], model: Any) -> None:
    """What `peft.modules_to_save` names is there, and is not what `train_embeddings` is for.

    Raises:
        ModelError: it is not.
    """
    tokens = (model.get_input_embeddings(), model.get_output_embeddings())
    for wanted in names:
        found = [module for name, module in model.named_modules() if name.endswith(wanted)]
        if not found:
            raise ModelError(f"peft.modules_to_save: the model has no module '{wanted}'")
        if any(module in tokens for module in found):
            raise ModelError(
                f"peft.modules_to_save: '{wanted}' is the embedding or the output layer, which may "
                "be one; set peft.train_embeddings: true, which trains both"
            )


def _check_not_on_the_output_layer(config: Any, model: Any) -> None:
    """Whatever the layer is called in this architecture.

    Raises:
        ModelError: an adapter would be put on it.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    if config.target_modules == "all-linear":  # PEFT leaves it out
        return
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if module is head and check_target_module_exists(config, name):
            raise ModelError(
                f"peft.target_modules puts an adapter on {name}, the output layer, whose weights "
                "the losses read directly; name other layers, or set all-linear (every linear "
                "layer but it)"
            )
