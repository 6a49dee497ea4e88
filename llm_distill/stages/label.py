"""A teacher gives texts labels from a list with definitions.

in:  {"id": "n1", "text": "The club won the cup after extra time."}
out: {"id": "n1", "text": "The club won the cup after extra time.", "label": "sports",
      "confidence": 0.97, "choices": ["arts", "sports"], "probabilities": [0.03, 0.97],
      "error": null}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings, StructuredOutput
from llm_distill.engines.label_scores import as_answer, label_logps
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError
from llm_distill.evaluation.labels_told import Told
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.methods.labels import (
    TAG,
    above,
    all_named_in,
    as_variables,
    calibrated,
    cut_to,
    least_sure,
    likeliest,
    likelihood_shares,
    named_in,
    shares,
)
from llm_distill.methods.scripts import main_script, scripts
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, features
from llm_distill.rows.label_lists import LabelEntry, listed_labels, plain
from llm_distill.rows.user_lists import list_digests
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Values

TEMPLATES = {False: "label/one.jinja", True: "label/several.jinja"}
"""By whether a text may have several labels."""
LOOKED_AT, FIRST = 100, 500
"""Texts, and characters of each, whose script is looked at."""
OWN = ("text", "labels", "abstain")
"""What a template is given beside the row's columns and the constants."""


class Label(AskingStage):
    """Asks a model for the label of each text, by a list of names and definitions.

    How sure it is of a label comes from its likelihood (`confidence: likelihood`, one label a
    text), or from how many of `n` answers say it (`samples`); a model's own word for it is not
    asked for. Names of the list are compared whole, whatever their case. An answer that is not in
    the list is none: the row has a null label and is counted, and so is one that `max_tokens` cut
    before `</label>`. With `several` a row of which no answer can be read has null labels, where
    `<label></label>` says that none fits.
    """

    version: ClassVar[int] = 3
    stage: Literal["label"]
    rows: Rows = Field(description="the stage whose rows have the texts")
    model: Model = Field(description="the teacher")
    labels: str = Field(
        min_length=1,
        description="a YAML file: a list of names, or of {name, definition, examples}",
    )
    text_column: str = Field("text", min_length=1, description="the column with the text")
    max_words: int | None = Field(
        None,
        ge=1,
        description="longer texts are cut after so many words, or characters where words have no "
        "space between them; null: none is",
    )
    several: bool = Field(False, description="a text may have several labels, or none")
    abstain: str | None = Field(
        None, description="what the teacher answers where no label fits, such as other"
    )
    confidence: Literal["none", "samples", "likelihood"] = Field(
        "none", description="where `confidence` and `probabilities` come from"
    )
    calibrate: bool = Field(
        False,
        description="likelihood: divided by the label's mean over all texts, which takes away that "
        "the teacher likes a label whatever the text; for labels that are about equally frequent",
    )
    n: int = Field(1, ge=1, description="samples: answers that are drawn for each text")
    constrain: bool = Field(
        False,
        description="nothing but a label of the list can be answered, with vLLM or a server of it "
        "(other servers may refuse the request); other engines are asked in words",
    )
    template: str | None = Field(
        None,
        description="reads `text`, `labels` and `abstain`; null: label/one.jinja, or "
        "label/several.jinja",
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=64), description="how answers are drawn"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.confidence == "samples":
            if self.n < 2:
                raise ValueError("confidence: samples needs n of 2 or more")
            if self.sampling.temperature == 0:
                raise ValueError(
                    f"n: {self.n} at temperature 0 would be the same answer every time; set "
                    "sampling: {temperature: …}"
                )
        elif self.n > 1:
            raise ValueError("n: several answers are for confidence: samples")
        if self.calibrate and self.confidence != "likelihood":
            raise ValueError("calibrate is for confidence: likelihood")
        if self.several and self.confidence == "likelihood":
            raise ValueError(
                "confidence: likelihood compares labels that exclude each other; with several take "
                "samples"
            )
        if self.several and (self.abstain is not None or self.constrain):
            name = "abstain" if self.abstain is not None else "constrain"
            raise ValueError(f"{name} is for one label a text; with several a text may have none")
        try:
            names = [each.name for each in self.listed]
        except DataError as error:
            raise ValueError(f"labels: {error}") from error
        if self.abstain is not None and plain(self.abstain) in map(plain, names):
            raise ValueError(f"abstain: '{self.abstain}' is a label of the list")
        return self

    @cached_property
    def listed(self) -> list[LabelEntry]:
        """The labels of the file."""
        return listed_labels(self.labels)

    @property
    def _names(self) -> list[str]:
        """What can be answered."""
        return [each.name for each in self.listed] + ([self.abstain] if self.abstain else [])

    @property
    def _template(self) -> str:
        return self.template or TEMPLATES[self.several]

    def asks(self, place: str) -> Literal["text", "likelihoods"] | None:
        return "likelihoods" if self.confidence == "likelihood" else "text"

    def source_digests(self) -> dict[str, str]:
        return list_digests(self.labels)

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        if n is None:
            return None
        if self.confidence == "likelihood":
            return {self.model: (n * len(self._names), 0)}
        return {self.model: (n * self.n, self.sampling.max_tokens)}

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.text_column}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.text_column}}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self._template: self.offered(inputs[self.rows], *OWN)}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self._added())

    def output_values(self, inputs: Mapping[str, Values]) -> Values:
        added = self._added()
        there = inputs.get(self.rows, {})
        kept = {name: there[name] for name in there if name not in added}
        label = {} if self.several else {"label": frozenset(each.name for each in self.listed)}
        return {**kept, **label}

    def is_seeded(self) -> bool:
        return self.confidence != "likelihood" and self.sampling.temperature > 0

    def _added(self) -> list[str]:
        label = "labels" if self.several else "label"
        return [label, "confidence", "choices", "probabilities", "error"]

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows).features
        return RowsOutput(self._rows(context), features(self._added(), like=like))

    def _rows(self, context: Context) -> Iterator[Row]:
        told = Told([each.name for each in self.listed], self.several)
        n_rows = len(context.rows(self.rows))
        self._warn_of_script(context)
        if self.confidence == "likelihood":
            budget = self.budget(n_rows * len(self._names))
            found = self._by_likelihood(context, budget)
            if self.calibrate:
                found = self._calibrated(found, context, told)
        else:
            budget = self.budget(n_rows * self.n)
            found = self._by_answers(context, budget, told)
        for row, given in found:
            told.count(given)
            yield {**row, **dict.fromkeys(self._added()), **given}
        if n_rows:
            told.check(self.rows, self.sampling.max_tokens)
        for warning in told.warnings(self.sampling.max_tokens):
            context.warn(warning)
        context.metrics.update(**told.figures(self._names, n_rows), **budget.figures())

    def _warn_of_script(self, context: Context) -> None:
        """Say if the list has nothing in the script of the texts."""
        rows = islice(context.each_row(self.rows), LOOKED_AT)
        script = main_script((row[self.text_column] or "")[:FIRST] for row in rows)
        each = ((one.name, one.definition, *one.examples) for one in self.listed)
        known = scripts([*self._names, *(text for texts in each for text in texts)])
        if script is not None and known and script not in known:
            context.warn(
                f"the texts of '{self.rows}' are in {script} script, in which {self.labels} has "
                "nothing. Look at some labels: a teacher may not see what the definitions mean "
                "for such texts, or answer in their language; examples in it help"
            )

    # --- what it answers ---

    def _by_answers(
        self, context: Context, budget: ErrorBudget, told: Told
    ) -> Iterator[tuple[Row, Row]]:
        total = self.n * len(context.rows(self.rows))
        answers = self.ask(context, self.model, self._jobs(context), total, budget)
        for row in context.each_row(self.rows):
            said = [completion for _, completion in islice(answers, self.n)]
            errors = [completion.error for completion in said if completion.error is not None]
            if len(errors) == len(said):
                yield row, {"error": errors[0]}
            else:
                yield row, self._read([c for c in said if c.error is None], told)
        for _ in answers:  # lets the bar and the counts of the requests end
            pass

    def _read(self, said: list[Completion], told: Told) -> Row:
        return self._read_several(said, told) if self.several else self._read_one(said, told)

    def _read_one(self, said: list[Completion], told: Told) -> Row:
        votes = []
        for completion in said:
            is_cut = _is_cut(completion)
            name = named_in(completion.text, self._names, is_cut=is_cut)
            if name is not None:
                votes.append(name)
            elif is_cut:
                told.cut += 1
            else:
                told.off_list[completion.text.strip()[:60] or "nothing"] += 1
        if not votes:
            return {}
        if self.confidence == "none":
            return self._one(votes[0], None)
        return self._one(None, shares(votes, self._names))

    def _one(self, name: str | None, probabilities: list[float] | None) -> Row:
        """name: as it was answered; None: the likeliest."""
        sure = None
        if probabilities is not None:
            name, sure = likeliest(probabilities, self._names)
        found: Row = {
            "label": None if name == self.abstain else name,
            "confidence": sure,
            "choices": self._names,
            "probabilities": probabilities,
        }
        return found

    def _read_several(self, said: list[Completion], told: Told) -> Row:
        """A label is given where more than half of the answers that can be read name it."""
        names = self._names
        counts: Counter[str] = Counter()
        n_read = 0
        for completion in said:
            is_cut = _is_cut(completion)
            found = all_named_in(completion.text, names, is_cut=is_cut)
            counts.update(found.given)
            n_read += found.is_readable
            told.off_list.update(other[:60] for other in found.others)
            if is_cut:
                told.cut += 1
            elif not (found.is_readable or found.others):
                told.off_list["nothing"] += 1
        if not n_read:
            return {}
        probabilities = [counts[name] / n_read for name in names]
        given = above(0.5, probabilities, names)
        sure = least_sure(probabilities)
        is_known = self.confidence == "samples"
        return {
            "labels": given,
            "confidence": sure if is_known else None,
            "choices": names,
            "probabilities": probabilities if is_known else None,
        }

    def _jobs(self, context: Context) -> Iterator[Job[None]]:
        template = load_template(self._template)
        form = context.model(self.model).prompt_format
        held = self.constrain and context.holds_structure(self.model)
        choice = tuple(map(as_answer, self._names))
        structure = StructuredOutput(choice=choice) if held else None
        for row in context.each_row(self.rows):
            for index in range(self.n):
                seed = derive_seed(context.seed, self.model, row["id"], index)
                values = self._values(row)
                name = f"{row['id']}-{index}"
                asked = template, values, form, self.sampling, seed, structure
                yield make_job(name, None, *asked)[0]

    def _values(self, row: Row) -> dict[str, Any]:
        text = row[self.text_column]
        if self.max_words is not None and text:
            text = cut_to(text, self.max_words)
        own = {"text": text, "labels": as_variables(self.listed), "abstain": self.abstain or False}
        return {**self.values(row), **own}

    # --- how likely it finds each ---

    def _by_likelihood(self, context: Context, budget: ErrorBudget) -> Iterator[tuple[Row, Row]]:
        jobs = self._likelihood_jobs(context)
        for row, logps, error in label_logps(context, self.model, jobs, self._names, budget):
            shared = None if logps is None else likelihood_shares(logps)
            yield row, {"error": error} if shared is None else self._one(None, shared)

    def _likelihood_jobs(self, context: Context) -> Iterator[Job[Row]]:
        template = load_template(self._template)
        form = context.model(self.model).prompt_format
        for row in context.each_row(self.rows):
            yield make_job(row["id"], row, template, self._values(row), form, self.sampling, 0)[0]

    def _calibrated(
        self, found: Iterator[tuple[Row, Row]], context: Context, told: Told
    ) -> Iterator[tuple[Row, Row]]:
        """The rows are read again rather than kept: only what was found of them is in memory."""
        all_given = [given for _, given in found]
        known = [given["probabilities"] for given in all_given if "probabilities" in given]
        probabilities, told.means = calibrated(known) if known else ([], None)
        anew = iter(probabilities)
        for row, given in zip(context.each_row(self.rows), all_given, strict=True):
            yield row, self._one(None, next(anew)) if "probabilities" in given else given


def _is_cut(completion: Completion) -> bool:
    """Whether it ended before a label was whole."""
    return completion.finish_reason == "length" and not TAG.search(completion.text)
