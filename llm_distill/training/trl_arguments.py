"""Fields of TRL's configs beyond our own settings: which may be given, checked by TRL's classes.

stages.student.trainer_arguments: {optim: adafactor, adam_beta2: 0.95, neftune_noise_alpha: 5}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from llm_distill.errors import nearest

TrlConfig = Literal["SFTConfig", "DPOConfig", "KTOConfig"]

PREPARES_ROWS = frozenset({
        "assistant_only_loss", "chat_template_path", "completion_only_loss", "dataset_kwargs",
        "dataset_num_proc", "dataset_text_field", "eos_token", "eval_packing", "label_names",
        "length_column_name", "model_init_kwargs", "packing", "packing_strategy", "pad_token",
        "padding_free", "remove_unused_columns", "shuffle_dataset", "truncation_mode",
})  # fmt: skip
EVALUATES = frozenset({
        "batch_eval_metrics", "bf16_full_eval", "do_eval", "do_predict", "eval_accumulation_steps",
        "eval_delay", "eval_do_concat_batches", "eval_on_start", "eval_steps", "eval_strategy",
        "eval_use_gather_object", "fp16_full_eval", "greater_is_better", "include_for_metrics",
        "load_best_model_at_end", "metric_for_best_model", "per_device_eval_batch_size",
        "prediction_loss_only",
})  # fmt: skip
SET_BY_THE_STAGE = frozenset({
        "auto_find_batch_size", "data_seed", "dataloader_pin_memory", "disable_dropout",
        "disable_tqdm", "do_train", "hub_always_push", "hub_model_id", "hub_private_repo",
        "hub_revision", "hub_strategy", "hub_token", "ignore_data_skip",
        "include_num_input_tokens_seen", "log_level", "log_level_replica", "logging_first_step",
        "logging_nan_inf_filter", "logging_strategy", "max_length", "output_dir", "project",
        "push_to_hub", "restore_callback_states_from_checkpoint", "resume_from_checkpoint",
        "run_name", "save_on_each_node", "save_only_model", "save_strategy", "seed",
        "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id", "trust_remote_code",
        "use_cache", "use_cpu",
})  # fmt: skip
DEVICES = frozenset({
        "accelerator_config", "average_tokens_across_devices", "ddp_backend",
        "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters",
        "ddp_static_graph", "ddp_timeout", "deepspeed", "fsdp", "fsdp_config", "local_rank",
        "log_on_each_node", "parallelism_config",
})  # fmt: skip
OF_SOME_LOSSES = {
    "label_smoothing": {"exo_pair", "robust", "aot", "aot_unpaired"},
    "discopop_tau": {"discopop"},
}
"""Fields of DPO that only these losses read."""


def typed_arguments(
    config: TrlConfig, given: Mapping[str, Any], settings: Collection[str], idle: Collection[str]
) -> dict[str, Any]:
    """`given` as the types that TRL's fields have: the 1e-8 of a YAML file is text.

    Args:
        config: the name of TRL's class.
        given: its fields.
        settings: the names of the stage's own settings.
        idle: fields that this training does not read.

    Raises:
        ValueError: a field is unknown, not for users, or of another type.
    """
    import trl

    kind = getattr(trl, config)
    known = {field.name for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    typed = {}
    for name, value in given.items():
        _check_name(name, config, known, settings)
        if name in idle:
            raise ValueError(f"{name} does nothing in this training")
        try:
            adapter = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
            typed[name] = adapter.validate_python(value)
        except ValidationError as error:
            said = "; ".join(dict.fromkeys(each["msg"] for each in error.errors()))
            raise ValueError(f"{name}: {said}, and not {value!r}") from error
    return typed


def check_together(config: TrlConfig, given: Mapping[str, Any], beside: Mapping[str, Any]) -> None:
    """Make TRL's config of them, as the training will.

    Args:
        config: the name of TRL's class.
        given: what `typed_arguments` gives.
        beside: fields that the stage sets to values of its own.

    Raises:
        ValueError: TRL refuses the values, or none of the losses reads a field.
    """
    import trl

    for name, losses in OF_SOME_LOSSES.items():
        if config == "DPOConfig" and name in given and not losses & set(beside["loss_type"]):
            raise ValueError(f"{name} is read by loss_type {', '.join(sorted(losses))} alone")
    try:
        getattr(trl, config)(
            output_dir="unused", report_to="none", use_cpu=True, bf16=False, **beside, **given
        )
    except Exception as error:  # whatever TRL's and transformers' own checks raise
        raise ValueError(f"TRL's {config} refuses it: {' '.join(str(error).split())}") from error


def _check_name(
    name: str, config: TrlConfig, known: Collection[str], settings: Collection[str]
) -> None:
    if name in settings:
        raise ValueError(f"{name} is a setting of the stage; set it beside trainer_arguments")
    if name not in known:
        raise ValueError(f"{name} is no field of TRL's {config}; {nearest(name, known)}")
    if name in SET_BY_THE_STAGE:
        raise ValueError(f"{name} is set by llm-distill")
    if name in DEVICES:
        raise ValueError(f"{name} is about several devices, which launch says")
    if name in PREPARES_ROWS:
        raise ValueError(f"{name} does nothing: rows reach TRL as tokens, made by this stage")
    if name in EVALUATES:
        raise ValueError(f"{name} does nothing: eval_rows and eval_steps say what is evaluated")
