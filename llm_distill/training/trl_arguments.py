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
        "trust_remote_code", "use_cpu",
})  # fmt: skip


def check_arguments(
    config: TrlConfig,
    given: Mapping[str, Any],
    settings: Collection[str],
    idle: Collection[str],
    beside: Mapping[str, Any],
) -> None:
    """Check `given` as TRL would, without training anything.

    Args:
        config: the name of TRL's class.
        given: its fields.
        settings: the names of the stage's own settings.
        idle: fields that this training does not read.
        beside: fields that the stage sets to values of its own.

    Raises:
        ValueError: a field is unknown, not for users, of another type, or TRL refuses its value.
    """
    import trl

    kind = getattr(trl, config)
    known = {field.name for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    for name, value in given.items():
        _check_name(name, config, known, settings)
        if name in idle:
            raise ValueError(f"{name} does nothing in this training")
        try:
            adapter = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
            adapter.validate_python(value)
        except ValidationError as error:
            said = "; ".join(dict.fromkeys(each["msg"] for each in error.errors()))
            raise ValueError(f"{name}: {said}, and not {value!r}") from error
    try:
        kind(output_dir="unused", report_to="none", use_cpu=True, bf16=False, **beside, **given)
    except (ValueError, TypeError, ImportError) as error:
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
    if name in PREPARES_ROWS:
        raise ValueError(f"{name} does nothing: rows reach TRL as tokens, made by this stage")
    if name in EVALUATES:
        raise ValueError(f"{name} does nothing: no rows are evaluated during the training")
