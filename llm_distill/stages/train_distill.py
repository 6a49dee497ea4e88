"""Train a student on a teacher's likelihoods of the same text, whatever their tokenizers.

in:  {"id": "a", "prompt": "What is 2 + 2?", "completion": "It is 4.", "teacher_logps": [-0.1, …],
      "teacher_log_pbs": [-0.0, …], "scored_by": "…", "scored_text": "…"}
out: a model directory, or an adapter directory
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from llm_distill.distillation.hacking.settings import WatchSettings, check_watch
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.rollouts.settings import (
    RolloutSettings,
    check_engine,
    check_rollouts,
)
from llm_distill.distillation.rows import RowText
from llm_distill.distillation.sampled import sampled_ids
from llm_distill.distillation.settings import DistillSettings
from llm_distill.distillation.teachers import Teachers, Weights, check_mixture
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Model, ModelOutput, Rows, Stage, later_setting
from llm_distill.training.settings import SampledSettings

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource
    from llm_distill.training.data import Labelled

SCORED = {"teacher_logps", "scored_by", "scored_text"}
TOP = {"teacher_top_ids", "teacher_top_logps"}
WRITTEN = {"completion_ids", "rollout_logps", "written_with"}
WRITTEN_BY = "losses.opd is of texts that this student wrote: generate gives it with keep_tokens"
UNWEIGHTED = "opd: {clip_ratio: null} takes texts as if the student had just written them"
REMEDIES = {
    **dict.fromkeys(SCORED, "score_likelihood gives it; or set online: true"),
    **dict.fromkeys(TOP, "score_likelihood gives it with top_k; or set online: true"),
    "teacher_log_pbs": "score_likelihood gives it, unless its scorer is an engine: then set "
    "alm.debias: false",
}


class TrainDistill(SampledSettings, RowText, DistillSettings, Stage):
    """Distillation by approximate likelihood matching (ALM, arXiv 2503.20083), and other losses.

    `alm` matches the student's likelihoods of pieces of text to the teacher's, even if their
    tokenizers differ. `sft` learns the text itself. `forward_kl`, `reverse_kl` and `jsd` compare
    whole distributions, so they need the same tokenizer on both sides, and either `online: true`
    or rows with the teacher's likeliest tokens (all others are then one bucket). `uld`, `gold`,
    `p_kl`, `h_kl` and `simct` compare them across tokenizers, and need `online: true`. The loss is
    over the completion, the assistant's messages, or a whole document. With `rollouts` the student
    writes completions itself, anew in each step, and the teacher reads these.

    With `teachers` the rows are those of several: each is read as its own teacher's tokenizer cuts
    it, and the means are over all of a step's rows, whoever scored them.

    `opd` is on-policy distillation, whatever the tokenizers: rows that this student wrote
    (`generate` with `keep_tokens: true` at temperature 1), scored by `score_likelihood`. Tokens
    become likelier where the teacher finds them likelier than the student does, and less likely
    where it does not; this is weighed anew in each step. In the history, `opd` is the mean of
    log q − log p a token (the reverse KL, on these texts), `opd_effective` the share of tokens that
    count once the student has moved away from the policy that wrote them, `opd_clipped` the share
    beyond `opd.clip_ratio`, `opd_apart` how far it has moved, in nats a token. Its rows end as they
    were sampled: one that `max_tokens` cut has no end in the loss (of rows without
    `completion_ids`, set `truncated: open` or `drop`).
    """

    without_effect = frozenset(
        {"label_smoothing_factor", "loss_type", "pad_to_multiple_of", "use_liger_kernel"}
    )
    output = "model"

    always_seeded = True
    stage: Literal["train_distill"]
    model: Model = Field(description="the student to start from")
    teacher: Model | None = Field(None, description="the model to learn from; not needed for sft")
    teachers: Teachers | None = later_setting(
        None,
        "instead of teacher: those of `score_likelihood`, by name; each row learns from the one "
        "that scored it",
    )
    teacher_weights: Weights | None = later_setting(
        None, "those of `score_likelihood`, if the rows were scored by a mixture of `teachers`"
    )
    rows: Rows = Field(description="the stage whose rows it is trained on")
    teacher_prompt_template: str | None = Field(
        None,
        description="the prompt that the rows were scored under; null: the student's",
    )
    online: bool | Literal["adapter_off", "engine"] = Field(
        False,
        description="true: keep the teacher in memory and score each batch; no stored scores. "
        "adapter_off: self-distillation: the teacher is the student without its adapter, as it "
        "was before transfer_tokenizer, so that its layers are in memory once. engine: with "
        "rollouts, ask the teacher's engine, on a server say, for the likelihoods of each step's "
        "texts; for alm without debiasing, and opd",
    )
    max_dropped: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of rows that may be left out because teacher and student normalise them "
        "to different texts",
    )
    rollouts: RolloutSettings | None = later_setting(
        None,
        "the student answers rows itself in each step, and learns from what the teacher, in memory "
        "or asked by its engine, says of that (on-policy distillation)",
    )
    watch_hacking: WatchSettings | None = later_setting(
        None,
        "measure on held-out texts, on the way, how far the student is from its teacher and from "
        "an oracle: whether it learns its teacher's faults (arXiv 2502.02671)",
    )
    if_no_rows: Literal["fail", "keep_model"] = Field(
        "fail", description="keep_model: without rows the model is passed on as it is"
    )

    @model_validator(mode="after")
    def _has_a_teacher(self) -> TrainDistill:
        asking = ["online"] * bool(self.online) + self.from_teacher()
        if self.teachers is not None and (self.teacher is not None or self.online):
            other = "teacher" if self.teacher is not None else "online"
            raise ValueError(
                f"teachers and {other} exclude each other: the rows of several teachers are scored "
                "before (score_likelihood)"
            )
        check_mixture(self.teachers, self.teacher_weights)
        if asking and self.teacher is None and self.teachers is None:
            raise ValueError(f"{', '.join(asking)} needs a teacher")
        across = self.losses.needing(Needs.SPANS)
        if across and self.teachers is not None:
            raise ValueError(
                f"losses: {', '.join(across)} compares whole distributions, and teachers are those "
                "of scored rows; name one teacher, with online: true, or take alm"
            )
        if across and not self.online:
            raise ValueError(
                f"losses: {', '.join(across)} compares the teacher's whole distributions, which no "
                "stored scores hold; set online: true, or take alm, which needs one number a token"
            )
        if self.teacher_prompt_template and (self.messages_column or self.text_column):
            raise ValueError("teacher_prompt_template needs rows with a prompt and a completion")
        if self.online == "adapter_off" and self.peft is None:
            raise ValueError("online: adapter_off needs peft: there is no adapter to turn off")
        if self.online == "engine":
            check_engine(self)
        if self.launch.is_sharded() and self.online == "adapter_off":
            raise ValueError(
                "online: adapter_off reads the student's own layers, which launch.strategy divides "
                "among processes; use ddp, or online: true"
            )
        if self.launch.is_sharded() and self.combine == "grad_mag":
            raise ValueError(
                "combine: grad_mag measures gradients of one layer, which launch.strategy divides "
                "among processes; use ddp, or combine: fixed"
            )
        if self.rollouts is not None:
            check_rollouts(self.rollouts, self)
        if self.watch_hacking is not None:
            check_watch(self.watch_hacking, self)
        return self

    def loads(self, place: str) -> bool:
        """Of a teacher whose scores are stored, or that is asked, the tokenizer is read alone."""
        return not self.reads_tokenizer(place) or self.online in (True, "adapter_off")

    def if_served(self, place: str) -> str | None:
        if place == "model" and self.asks(place) == "adapters":
            return "what is trained here and written there needs engine.adapters: hot_load"
        if place != "teacher" or self.online is not True:
            return None
        if self.rollouts is not None:
            return "online: engine asks it about each step's texts (losses alm and opd)"
        return "let score_likelihood ask it once (scorer: engine), and leave online out"

    def reads_tokenizer(self, place: str) -> bool:
        return place.partition(".")[0] in ("teacher", "teachers")

    def asks(self, place: str) -> Literal["likelihoods", "adapters"] | None:
        if place == "model":
            writes = self.rollouts is not None and self.rollouts.writer == "engine"
            return "adapters" if writes else None
        return "likelihoods" if self.online == "engine" and place == "teacher" else None

    def read_as_text(self) -> dict[str, set[str]]:
        columns = self.text_columns() - {self.messages_column or ""}
        others = [*self.all_rows(), *self._watched_rows()]
        return {**dict.fromkeys(others, columns), self.rows: columns - self._unread()}

    def required_columns(self) -> dict[str, set[str]]:
        columns = {"id"} | self.text_columns()
        if self.from_teacher() and not self.online:
            columns |= SCORED
            columns |= {"teacher_log_pbs"} if self.debiases() else set()
            columns |= TOP if self.losses.needing(Needs.DISTRIBUTIONS) else set()
        own = (columns - self._unread()) | self.sampled().get(self.rows, set())
        own |= WRITTEN if self._weighs_by_writer() else set()
        needed = {**dict.fromkeys(self.all_rows(), columns), self.rows: own}
        for name, watched in self._watched_rows().items():
            needed[name] = needed.get(name, set()) | watched
        return needed

    def _weighs_by_writer(self) -> bool:
        """Whether it matters how likely the rows' tokens were when they were sampled."""
        opd = self.opd if self.losses.opd is not None and self.rollouts is None else None
        return opd is not None and (opd.clip_ratio is not None or opd.reward_scale != 1)

    def _watched_rows(self) -> dict[str, set[str]]:
        """The columns of the rows that hacking is watched on, by stage."""
        if self.watch_hacking is None:
            return {}
        watch, texts = self.watch_hacking, {"id"} | self.text_columns()
        scores = set() if self.online else watch.columns_of_teacher(debiases=self.debiases())
        golden = {} if watch.golden_rows is None else {watch.golden_rows: texts}
        return {**golden, watch.rows: texts | scores}

    def _unread(self) -> set[str]:
        """Columns that rows do not need, where the student answers them all itself."""
        answers_all = self.rollouts is not None and self.rollouts.share == 1
        return {self.completion_column, "finish_reason"} if answers_all else set()

    def remedy(self, column: str) -> str | None:
        if column in WRITTEN:
            return WRITTEN_BY if self.opd.reward_scale != 1 else f"{WRITTEN_BY}; or {UNWEIGHTED}"
        return REMEDIES.get(column)

    def may_be_empty(self) -> set[str]:
        return {self.rows} if self.if_no_rows == "keep_model" else set()

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        columns = inputs[self.rows]
        return self.offered(columns) | self.as_the_teacher_reads().offered(columns)

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.distillation.hacking.watch import watch_of
        from llm_distill.distillation.losses.watching import warnings_of
        from llm_distill.distillation.reading import Reading
        from llm_distill.training.launch import encoded_once
        from llm_distill.training.train import save_untrained, train_and_save

        source = context.model(self.model)
        seed = derive_seed(context.seed, "train_distill")
        if self.if_no_rows == "keep_model" and not len(context.rows(self.rows)):
            context.warn(f"'{self.rows}' has no rows: model '{self.model}' is passed on untrained")
            return save_untrained(self, source, context, seed)
        reading = Reading.of(self, context)
        student, signal = reading.readers.student, reading.readers.signal
        dataset = encoded_once(lambda: reading.dataset(self.rows), context.work_dir)
        rollouts = reading.rollouts(seed)
        held_out = self.held_out(reading.dataset, context.work_dir)
        watch = watch_of(self, context, reading.readers)

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            from llm_distill.distillation.trainer import distill_trainer

            given = model, dataset, student, arguments, peft_config, self, signal
            return distill_trainer(*given, held_out, rollouts, watch)

        output = train_and_save(self, source, dataset, trainer, context, seed, held_out)
        if watch is not None:
            watch.tell(context)
        for message in warnings_of(self, context.metrics["history"]):
            context.warn(message)
        return output

    def labelled(self, source: ModelSource) -> Callable[[Row], list[Labelled]]:
        """See `training.data.Labelled`; of the student."""
        from llm_distill.distillation.alignment.encoding import in_loss, row_encoder
        from llm_distill.distillation.rollouts.rows import STAND_IN
        from llm_distill.models.sources import context_length
        from llm_distill.training.data import labelled

        encoder = row_encoder(
            source,
            min(self.max_length, context_length(source)),
            answers=self.answers,
            thoughts=self.thoughts,
        )
        turns, tools = self.turns(), self.tools()

        def of(row: Row) -> list[Labelled]:
            if self._unread():  # the student writes the completion, whatever the row has
                given = encoder.encode(turns(self.with_text(row, STAND_IN)), tools(row))
                ids = given.ids[: given.n_given].tolist()
                return [labelled(encoder.tokenizer, ids, [False] * len(ids))]
            is_open, sampled = self.is_open(row), sampled_ids(row, encoder.vocabulary)
            encoded = encoder.encode(turns(row), tools(row), is_open=is_open, sampled=sampled)
            index = set(in_loss(encoded).tolist())
            ids = encoded.ids.tolist()
            in_loss_at = [place in index for place in range(len(ids))]
            return [labelled(encoder.tokenizer, ids, in_loss_at)]

        return of

    def as_the_teacher_reads(self) -> RowText:
        if self.teacher_prompt_template is None:
            return self
        return self.model_copy(update={"prompt_template": self.teacher_prompt_template})

    def has_text(self, row: Row) -> bool:
        """Whether a row's own completion is read."""
        return not self._unread()

    def is_open_if_read(self, row: Row) -> bool:
        return not self._unread() and self.is_open(row)
