"""Have models take tasks of lm-evaluation-harness, its own or a user's.

in:  no rows: a task names its data
out: {"id": "sums-0-student", "parent_id": "sums-0", "task": "sums", "model": "student",
      "shots": 0, "filter": "none", "prompt": "2 + 2 =", "completion": null, "answer": "4",
      "reference_answer": "4", "choices": ["4", "5"], "probabilities": [0.9, 0.1],
      "score": 1.0, "metric": "acc", "is_correct": true}
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from llm_distill.errors import DataError, ModelError
from llm_distill.evaluation.contamination import ContaminationSettings, look_for_items
from llm_distill.evaluation.lm_eval_results import figures, sample_row
from llm_distill.evaluation.lm_eval_tasks import (
    Tasks,
    asked,
    digests,
    files_outside,
    first_line,
    load_tasks,
    override,
    seed,
)
from llm_distill.evaluation.result_rows import Contamination, HarnessRow
from llm_distill.evaluation.results import Results
from llm_distill.models.limits import guard_ids
from llm_distill.models.memory import is_out_of_memory
from llm_distill.models.sources import (
    Device,
    ModelSource,
    choose_device,
    load_model,
    load_tokenizer,
)
from llm_distill.paths import find_resource
from llm_distill.rows.columns import Row, features
from llm_distill.stage import (
    Columns,
    Context,
    Model,
    Progress,
    RowsOutput,
    Stage,
    Values,
    execution_setting,
    later_setting,
)

log = logging.getLogger("llm_distill")

COLUMNS = (
    "id", "parent_id", "task", "model", "shots", "filter", "prompt", "completion", "answer",
    "reference_answer", "choices", "probabilities", "score", "metric", "is_correct",
)  # fmt: skip


class EvaluateLmEval(Stage):
    """Figures and samples of lm-evaluation-harness tasks, with lm-eval's own names and defaults.

    Each item is a row (one per filter, if a task has several), whose `score` is that of the task's
    first metric. A multiple-choice item has the `probabilities` of its choices, and `answer` is the
    likeliest. Random choices use lm-eval's seeds, so that its command line gives the same figures.
    """

    needs_weights: ClassVar[bool] = True
    version: ClassVar[int] = 3

    stage: Literal["evaluate_lm_eval"]
    models: list[Model] = Field(min_length=1, description="the models that take the tasks")
    tasks: list[str] = Field(min_length=1, description="lm-eval's names of tasks, groups or tags")
    include_path: str | None = Field(
        None, description="a folder with your own task files and the data that they read"
    )
    num_fewshot: int | None = Field(
        None, ge=0, description="worked examples in the prompt; null: as each task says"
    )
    limit: int | float | None = Field(
        None, gt=0, description="only the first items of each task; below 1, a share of them"
    )
    apply_chat_template: bool | None = Field(
        None, description="null: if the model's prompt_format is chat"
    )
    enable_thinking: bool | None = later_setting(
        None,
        "told to a chat template that knows it, such as Qwen 3's; if true, what is thought before "
        "</think> is cut off, a thought without an end has no answer, what ends an answer ends no "
        "thought, and tasks that compare likelihoods are refused",
    )
    system_instruction: str | None = Field(None, description="the start of every prompt")
    gen_kwargs: dict[str, Any] = Field(
        {}, description="override the tasks' settings for generation, such as max_gen_toks: 64"
    )
    contamination: ContaminationSettings = Field(
        ContaminationSettings(), description="items in the models' training data"
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = execution_setting(
        8, "prompts at once"
    )
    device: Device = execution_setting("auto", "auto takes the GPU if there is one")

    @field_validator("include_path")
    @classmethod
    def _is_a_folder(cls, path: str | None) -> str | None:
        found = find_resource(path) if path is not None else None
        if path is not None and (found is None or not found.is_dir()):
            raise ValueError(f"no directory {path}, from the working directory or bundled")
        return path

    @field_validator("models", "tasks")
    @classmethod
    def _once_each(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("each can be named once")
        return names

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def output_values(self, inputs: Mapping[str, Values]) -> Values:
        return {"model": frozenset(self.models)}

    def source_digests(self) -> dict[str, str]:
        return digests(self._folder())

    def run(self, context: Context) -> RowsOutput:
        tasks = load_tasks(self.tasks, self._folder())
        for name, file in files_outside(tasks, self._folder()):
            context.warn(
                f"task '{name}' reads {file}, which is outside include_path: changes of it will "
                "not be noticed"
            )
        override(tasks, self.num_fewshot, self.gen_kwargs)
        return RowsOutput(self._rows(context, tasks), features(COLUMNS))

    def _folder(self) -> Path | None:
        return find_resource(self.include_path) if self.include_path is not None else None

    def _rows(self, context: Context, tasks: Tasks) -> Iterator[Row]:
        found: list[HarnessRow] = []
        results: dict[str, Any] = {}
        looked_for = Results(contamination=self._contamination(context, tasks))
        context.metrics.update(looked_for.to_metrics())
        for model in self.models:
            source = context.model(model)
            with context.progress(f"lm-eval ({model})", unit="requests") as bar:
                results = self._evaluate(source, tasks, bar)
            found.extend(figures(model, results))
            for task, samples in results["samples"].items():
                shots = results["n-shot"].get(task)
                for sample in samples:
                    yield sample_row(model, task, shots, sample, _choices(tasks, task, sample))
        measured = Results(harness=tuple(found)).to_metrics()
        context.metrics.update(measured, versions=results["versions"])

    def _contamination(self, context: Context, tasks: Tasks) -> Contamination:
        """Looks for what the tasks ask, without worked examples."""
        seen = context.training_rows(self.models)
        if not seen:  # do not render items without anything to compare them with
            return Contamination(ngram=self.contamination.ngram, n_items=0, rows={})
        texts, names = {}, {}
        for name, task in tasks["tasks"].items():
            for index, document in enumerate(task.eval_docs):
                texts[f"{name}-{index}"] = asked(task, document)
                names[f"{name}-{index}"] = name
        items = {identity: text for identity, text in texts.items() if text}
        if len(items) < len(texts):
            context.warn(f"{len(texts) - len(items)} items have no text to look for")
        exam = ", ".join(self.tasks)
        return look_for_items(items, names, exam, seen, self.contamination, context.warn)

    def _evaluate(self, source: ModelSource, tasks: Tasks, bar: Progress) -> dict[str, Any]:
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        from llm_distill.evaluation.lm_eval_thinking import ThinkingLM

        as_chat = self.apply_chat_template
        if as_chat is None:
            as_chat = source.prompt_format == "chat"
        # Loaded here, not by lm-eval: safetensors only, with every adapter, without the Hub.
        model: Any = load_model(source, device=choose_device(self.device, "device"))
        guard_ids(model, source.name, "a prompt")
        tokenizer: Any = load_tokenizer(source)
        if self.enable_thinking:
            lm: HFLM = ThinkingLM(model, tokenizer, self.batch_size)
        else:
            lm = HFLM(
                pretrained=model,
                tokenizer=tokenizer,
                batch_size=self.batch_size,
                enable_thinking=self.enable_thinking,
            )
        lm.set_cache_hook(_Counter(bar))
        seed(tasks)
        try:
            with redirect_stderr(StringIO()):  # its bars would break ours
                # Not simple_evaluate: it indexes all tasks again and looks up the versions of
                # everything, which takes tens of seconds per model.
                results: dict[str, Any] = lm_eval.evaluate(
                    lm,
                    tasks,
                    limit=self.limit,
                    apply_chat_template=as_chat,
                    fewshot_as_multiturn=True,
                    system_instruction=self.system_instruction,
                )
        except ModelError:
            raise
        except Exception as error:
            log.info("lm-eval failed", exc_info=True)
            if is_out_of_memory(error):
                raise ModelError(
                    f"model '{source.name}' ran out of memory; lower batch_size "
                    f"(now {self.batch_size})"
                ) from error
            raise DataError(
                f"lm-eval failed with model '{source.name}' ({first_line(error)}); the stage's log "
                "has its traceback"
            ) from error
        return results


class _Counter:
    """Replaces lm-eval's cache, which is called for each answer."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """As lm_eval.api.model.CacheHook."""
        self._bar.advance()


def _choices(tasks: Tasks, task: str, sample: dict[str, Any]) -> list[str] | None:
    known = tasks["tasks"][task]
    if known.OUTPUT_TYPE != "multiple_choice":
        return None
    return [str(choice) for choice in known.doc_to_choice(sample["doc"])]
