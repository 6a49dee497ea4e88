"""Train an encoder or a decoder to classify texts.

in:  {"id": "n1", "text": "The club won the cup.", "label": "sports"}, or with `targets: soft`
     {"id": "n1", "text": "…", "choices": ["arts", "sports"], "probabilities": [0.03, 0.97]},
     or with `several: true` {"id": "n1", "text": "…", "labels": ["arts", "sports"]}
out: a model directory, with the classes' names in its config
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, few
from llm_distill.methods.class_targets import balanced_weights
from llm_distill.methods.labels import likeliest
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.rows.label_lists import listed_labels, said_alike
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.rows.user_lists import list_digests
from llm_distill.stage import (
    Context,
    Model,
    ModelOutput,
    Rows,
    Stage,
    execution_setting,
    later_setting,
)
from llm_distill.training.settings import HeldOutSettings

if TYPE_CHECKING:
    from llm_distill.training.class_rows import ClassRows
    from llm_distill.training.fusion import FusionPlan

LOOKED_AT = 1000
"""Texts in which unknown tokens are counted."""
MOST_UNKNOWN = 0.1
LossName = Literal["cross_entropy", "pld", "logit_mse"]
"""As `methods.class_losses.LossName`, whose file loads torch."""


class TrainClassifier(HeldOutSettings, Stage):
    """Trains a model with a classification head (transformers' Trainer), towards labels or a
    teacher's probabilities, or both (`gold_column`, `gold_weight`).

    The classes are those of a list (`labels`), or else those that occur, by name. With `several` a
    text may have any number of them, none too, and each is learned by itself. A model that is a
    classifier of the same classes keeps its head; any other begins with a new one. With a `peft`
    the head is trained whole, and the adapter is merged into the result, which is a whole model in
    any case. Rows without a label, or without a weight above 0, are counted and left out; texts are
    cut after `max_length` tokens.
    """

    output = "model"
    always_seeded = True
    without_effect = frozenset({"activation_offloading", "loss_type", "pad_to_multiple_of"})
    version: ClassVar[int] = 2

    stage: Literal["train_classifier"]
    model: Model = Field(description="an encoder or a decoder, or a classifier, to start from")
    rows: Rows = Field(description="the stage whose rows it is trained on")
    text_column: str = Field("text", min_length=1, description="the column with the text")
    label_column: str = Field(
        "label", min_length=1, description="the column with the label; with several `labels`, lists"
    )
    several: bool = later_setting(False, "a text may have several labels, or none")
    labels: str | None = Field(
        None, min_length=1, description="a YAML file with the classes; null: those that occur"
    )
    targets: Literal["hard", "soft"] = Field(
        "hard", description="soft: the columns `choices` and `probabilities`, matched by name"
    )
    loss: LossName = later_setting(
        "cross_entropy",
        "towards soft targets: cross_entropy; pld, the gold label first, then the teacher's order; "
        "logit_mse, their logarithms",
    )
    gold_column: str | None = later_setting(
        None, "the column with the right label, beside soft targets; null where it is not known"
    )
    gold_weight: float = later_setting(
        0.0, "share of the loss that is cross entropy to the gold label", ge=0, le=1
    )
    weight_column: str | None = Field(
        None, description="how much a row counts in the loss, such as confidence"
    )
    shuffle_weights: bool = later_setting(
        False, "a control: each row has the weight of another, drawn by the seed"
    )
    fusion_rows: Rows | None = later_setting(
        None,
        "texts with right labels, by which a small network learns how much each teacher and the "
        "label in gold_column count in each row (TGeo-KD); null: all rows alike",
    )
    fusion_label_column: str = later_setting(
        "reference_answer", "the right labels of fusion_rows", min_length=1
    )
    fusion_learning_rate: float = later_setting(0.003, "of that network (Adam)", gt=0)
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: each class counts alike, however many rows it has"
    )
    max_length: int = Field(512, ge=2, description="longer texts, in tokens, are cut")
    on_collapse: Literal["stop", "warn", "ignore"] = execution_setting(
        "ignore", "a classifier writes nothing, so it is not asked before and after"
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_of_labels(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("several") is True:
            return {"label_column": "labels", **given}
        return given

    @model_validator(mode="after")
    def _targets_fit(self) -> Self:
        if self.several and (self.loss, self.class_weights) != ("cross_entropy", "none"):
            raise ValueError("loss and class_weights are for one label a text; leave out several")
        if self.several and self.gold_column is not None:
            raise ValueError("gold_column is for one label a text; leave out several")
        if self.loss == "pld" and self.gold_column is None:
            raise ValueError("loss: pld ranks the right label first; name its column (gold_column)")
        if self.gold_weight > 0 and self.gold_column is None:
            raise ValueError("gold_weight: name the column with the right label (gold_column)")
        unused = self.gold_weight == 0 and self.loss != "pld" and self.fusion_rows is None
        if self.gold_column is not None and unused:
            raise ValueError(
                "gold_column changes nothing without gold_weight, fusion_rows or loss: pld"
            )
        if self.targets == "hard" and (self.gold_column or self.loss != "cross_entropy"):
            raise ValueError("loss and gold_column go with a teacher's targets: soft")
        return self

    @model_validator(mode="after")
    def _can_be_fused(self) -> Self:
        fields = TrainClassifier.model_fields
        names = ("fusion_label_column", "fusion_learning_rate")
        given = [name for name in names if getattr(self, name) != fields[name].default]
        if self.fusion_rows is None:
            if given:
                raise ValueError(f"{' and '.join(given)} needs fusion_rows")
            return self
        if self.targets == "hard" or self.several:
            raise ValueError("fusion_rows: sources are fused as targets: soft, one label a text")
        if self.loss != "cross_entropy" or self.gold_weight > 0 or self.class_weights != "none":
            raise ValueError(
                "fusion_rows: what counts how much is learned; leave out loss, gold_weight and "
                "class_weights"
            )
        if self.fusion_rows == self.rows:
            raise ValueError(
                "fusion_rows are the rows that are trained on; hold others out (split)"
            )
        if self.eval_rows is not None:
            raise ValueError(
                "eval_rows: with fusion_rows the loss has other ratios at each step, and is not "
                "comparable; leave eval_rows out"
            )
        if self.launch.stated() not in (None, 1) or self.launch.is_sharded():
            raise ValueError("fusion_rows: ratios are learned in one process; launch.processes: 1")
        return self

    @model_validator(mode="after")
    def _weights_to_shuffle(self) -> Self:
        if self.shuffle_weights and self.weight_column is None:
            raise ValueError("shuffle_weights: name the column with the weights (weight_column)")
        if self.shuffle_weights and self.class_weights != "none":
            raise ValueError("shuffle_weights would shuffle class_weights too; leave one out")
        return self

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        if self.quantization is not None:
            raise ValueError("quantization: the result is a whole model; leave it out")
        if self.peft is not None and self.launch.is_sharded():
            raise ValueError(
                "launch.strategy: an adapter of a classifier is merged at the end, for which one "
                "process needs all weights; take ddp, or train all weights"
            )
        if self.peft is not None and self.peft.train_embeddings:
            raise ValueError("peft.train_embeddings is for language models")
        if self.on_collapse != "ignore":
            raise ValueError("on_collapse: a classifier writes nothing to be looked at")
        return self

    @model_validator(mode="after")
    def _list_is_there(self) -> Self:
        if self.labels is not None:
            try:
                listed_labels(self.labels)
            except DataError as error:
                raise ValueError(f"labels: {error}") from error
        return self

    def depends_on_processes(self) -> bool:
        return self.fusion_rows is not None

    def source_digests(self) -> dict[str, str]:
        return {} if self.labels is None else list_digests(self.labels)

    def required_columns(self) -> dict[str, set[str]]:
        target = {self.label_column} if self.targets == "hard" else {"choices", "probabilities"}
        own = filter(None, [self.weight_column, self.gold_column])
        columns = {"id", self.text_column, *target, *own}
        needed = dict.fromkeys(self.all_rows(), columns)
        if self.fusion_rows is not None:
            needed[self.fusion_rows] = {"id", self.text_column, self.fusion_label_column}
        return needed

    def read_as_text(self) -> dict[str, set[str]]:
        labels = {self.label_column} if self.targets == "hard" and not self.several else set()
        labels |= {self.gold_column} if self.gold_column is not None else set()
        return {name: {self.text_column, *labels} for name in self.all_rows()}

    def remedy(self, column: str) -> str | None:
        if column in ("choices", "probabilities"):
            return "label gives it with confidence: samples or likelihood; or set targets: hard"
        if column == "labels":
            return "label gives it with several: true; or leave several out"
        return "label gives it; or name another (label_column)" if column == "label" else None

    def run(self, context: Context) -> ModelOutput:
        from llm_distill.methods.class_losses import ClassLoss
        from llm_distill.models.classifiers import classifier_tokenizer, most_tokens
        from llm_distill.training.class_rows import ClassRows
        from llm_distill.training.classifier import train_and_save_classifier
        from llm_distill.training.data import shuffled_column, token_dataset
        from llm_distill.training.launch import encoded_once

        read = ClassRows(
            soft=self.targets == "soft",
            several=self.several,
            label_column=self.label_column,
            gold_column=self.gold_column,
            needs_gold=self.loss == "pld",
            each_teacher=self.fusion_rows is not None,
        )
        for name in self.all_rows():
            read.check(context.rows(name).features, name)
        source = context.model(self.model)
        tokenizer = classifier_tokenizer(source)
        classes, balance = self._classes(context, read)
        most = most_tokens(source, tokenizer, self.max_length)
        encode = partial(self._example, read, tokenizer, most, classes, balance)
        seed = derive_seed(context.seed, "train_classifier")

        def encoded(name: str) -> Any:
            found = token_dataset(context.each_row(name), encode, context.drop, name)
            return shuffled_column(found, "weight", seed) if self.shuffle_weights else found

        dataset = encoded_once(lambda: encoded(self.rows), context.work_dir)
        _warn_of_unknown(context, dataset, tokenizer.unk_token_id, source.name)
        fusion = self._fusion(context, dataset, tokenizer, most, classes)
        held_out = self.held_out(encoded, context.work_dir)
        return train_and_save_classifier(
            self,
            source,
            classes,
            ClassLoss(self.loss, self.gold_weight, self.several),
            dataset,
            held_out,
            tokenizer,
            context,
            seed,
            fusion,
        )

    def _fusion(
        self, context: Context, dataset: Any, tokenizer: Any, most: int, classes: list[str]
    ) -> FusionPlan | None:
        """Raises DataError: there is nothing to weigh, or nothing to weigh it by."""
        from llm_distill.training.class_rows import ClassRows
        from llm_distill.training.data import token_dataset
        from llm_distill.training.fusion import FusionPlan

        if self.fusion_rows is None:
            return None
        n_teachers = {len(row) // len(classes) for row in dataset["target"]}
        if len(n_teachers) > 1:
            numbers = ", ".join(map(str, sorted(n_teachers)))
            raise DataError(
                f"rows of '{self.rows}' have the probabilities of {numbers} teachers; all rows "
                "need the same ones (combine_labels with keep_each: true)"
            )
        if n_teachers == {1} and self.gold_column is None:
            raise DataError(
                f"the rows of '{self.rows}' have one teacher and no label beside it, so there is "
                "nothing to weigh; combine_labels with keep_each: true has several, gold_column "
                "names a label"
            )
        right = ClassRows(soft=False, several=False, label_column=self.fusion_label_column)

        def held(row: Row) -> dict[str, Any]:
            return self._encoded(tokenizer, most, row, right.target(row, classes))

        name = self.fusion_rows
        rows = token_dataset(context.each_row(name), held, context.drop, name)
        return FusionPlan(n_teachers.pop(), rows, self.fusion_learning_rate)

    def _classes(self, context: Context, read: ClassRows) -> tuple[list[str], dict[str, float]]:
        """The classes, and how much each counts."""
        seen = read.seen(context.each_row(self.rows))
        counts = seen.counts
        if self.several:
            context.metrics["rows_without_label"] = seen.without
        if self.labels is not None:
            classes = [each.name for each in listed_labels(self.labels)]
        elif (abstains := seen.abstentions.told(self.rows)) is not None:
            raise DataError(abstains)
        else:
            classes = sorted({*counts, *(seen.choices if self.targets == "soft" else ())})
            self._warn_of_lost(context, counts, seen.choices)
        if len(classes) < 2:
            raise DataError(
                f"the rows of '{self.rows}' have {len(classes)} label"
                f"{'' if len(classes) == 1 else 's'}: {', '.join(classes) or 'none'}; a classifier "
                "tells two or more apart"
            )
        if (alike := said_alike({*classes, *counts})) is not None:
            context.warn(alike)
        unknown = counts.keys() - {*classes}
        if unknown:
            named = few([f"{name!r} {counts[name]}" for name in sorted(unknown)])
            context.warn(
                f"'{self.label_column if self.targets == 'hard' else 'choices'}' of '{self.rows}' "
                f"has what is not in {self.labels}: {named}. That does not count: correct it, "
                "or add it to the list, unless the teacher abstains so"
            )
        empty = [name for name in classes if not counts[name]]
        if empty:
            without = "name a list without it (labels)"
            context.warn(
                f"no row has the label {', '.join(empty)}: it is hardly ever predicted. Add rows "
                f"of it, or {without if self.labels is None else f'take it out of {self.labels}'}"
            )
        context.metrics["rows_by_class"] = {name: counts[name] for name in classes}
        if self.class_weights == "none":
            return classes, dict.fromkeys(classes, 1.0)
        rows = [name for name in classes for _ in range(counts[name])]
        return classes, dict.fromkeys(classes, 1.0) | balanced_weights(rows)

    def _warn_of_lost(self, context: Context, counts: Counter[str], others: Counter[str]) -> None:
        """Say which labels could have been given and are no class, since no row is left of them."""
        lost = sorted(others.keys() - counts.keys())
        # Parts of classes (split_labels) and another's names are no labels of these rows.
        if self.targets == "soft" or not lost or counts.keys().isdisjoint(others):
            return
        context.warn(
            f"no row of '{self.rows}' has the label {', '.join(lost)}, which is among its choices: "
            "it is no class of this classifier. Name the list (labels) to keep it as one; nothing "
            "is amiss where that is how the teacher abstains"
        )

    def _example(
        self,
        read: ClassRows,
        tokenizer: Any,
        most: int,
        classes: list[str],
        balance: dict[str, float],
        row: Row,
    ) -> dict[str, Any]:
        from llm_distill.training.data import checked_weight

        target = read.target(row, classes)
        weight = 1.0 if self.weight_column is None else checked_weight(row[self.weight_column])
        if self.class_weights == "balanced":
            weight *= balance[likeliest(target, classes)[0]]
        found = self._encoded(tokenizer, most, row, target)
        return {**found, "weight": weight, **read.gold(row, classes)}

    def _encoded(self, tokenizer: Any, most: int, row: Row, target: list[float]) -> dict[str, Any]:
        import numpy as np

        from llm_distill.models.text_batches import text_ids

        ids = text_ids(tokenizer, most, row[self.text_column])
        if not ids:
            raise UnusableRowError("no text")
        return {"input_ids": ids, "target": np.asarray(target, dtype=np.float32), "weight": 1.0}


def _warn_of_unknown(context: Context, dataset: Any, unknown: int | None, name: str) -> None:
    """Say if the model's tokenizer cannot read a good part of the texts."""
    first = dataset[:LOOKED_AT]["input_ids"]
    share = sum(list(ids).count(unknown) for ids in first) / sum(map(len, first))
    if share > MOST_UNKNOWN:
        context.warn(
            f"{share:.0%} of the tokens are unknown to the tokenizer of '{name}', and look alike "
            "to it; take a model that was trained on texts like these"
        )
