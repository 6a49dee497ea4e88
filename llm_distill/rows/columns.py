"""Column names and their types: the contract between stages.

A stage adds columns; it never changes the meaning of one. `datasets` is imported late, because
checking a pipeline needs the names only.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, Features

log = logging.getLogger("llm_distill")

Row = dict[str, Any]

# name -> (type, meaning). The types are those of `features`.
COLUMNS: dict[str, tuple[str, str]] = {
    "id": ("string", "unique in the dataset, stable under reordering"),
    "parent_id": ("string", "the id of the row that this one was made from"),
    "task": ("string", "the task that the row belongs to; methods work a task at a time"),
    "prompt": ("string", "what the model is asked, as rendered"),
    "completion": ("string", "what the model answered"),
    "messages": ("messages", "a conversation; see `rows.messages`"),
    "tools": ("string", "the tools that a conversation may call, as JSON text"),
    "reasoning": ("string", "what the model thought before it answered; null where it did not"),
    "chosen": ("string", "the preferred answer to `prompt`"),
    "rejected": ("string", "the answer that `chosen` is preferred to"),
    "question": ("string", "the problem as it is posed"),
    "reference_answer": ("string", "the answer that counts as right"),
    "rationale": ("string", "the written way to an answer"),
    "choices": ("list[string]", "the answers that a model chose between"),
    "probabilities": ("list[float64]", "how likely the model takes each of `choices` to be"),
    "teacher_probabilities": (
        "list[float64]",
        "each teacher's `probabilities`, one teacher after another; zeros where one gave none",
    ),
    "label": ("string", "the class that a text is given; null where none was"),
    "labels": ("list[string]", "the classes that a text is given, where it may have several"),
    "confidence": ("float64", "how likely a model takes `label` to be, or all of `labels`"),
    "answer": ("string", "the final answer read out of a completion; null where none was found"),
    "explanation": ("string", "what a teacher says to a student about a question"),
    "answer_without": ("string", "what the student answers without help"),
    "answer_with": ("string", "what the student answers with the explanation"),
    "p_without": ("float64", "how likely a mental model of the student takes an answer to be"),
    "p_with": ("float64", "the same where the student reads the explanation"),
    "utility": ("float64", "`p_with` minus `p_without`"),
    "n_samples": ("int64", "how many answers a probability is a share of; null: a likelihood"),
    "answer_form": ("string", "where `answer` was found: tag, boxed, …; see docs/answers.md"),
    "token_f1": ("float64", "words that answer and reference share, 0 to 1, as SQuAD counts them"),
    "rouge_1": ("float64", "the same by ROUGE-1: words, 0 to 1"),
    "rouge_2": ("float64", "the same by ROUGE-2: pairs of words"),
    "rouge_l": ("float64", "the same by ROUGE-L: the longest common sequence of words"),
    "chrf": ("float64", "the same by chrF: runs of up to 6 characters, 0 to 1"),
    "judge_grade": ("float64", "the grade that a judge gives; null where it cannot be read"),
    "judge_outcome": ("string", "won, tied or lost against the baseline's answer; null: neither"),
    "judge_replies": ("list[string]", "what the judge wrote"),
    "verdict": ("string", "a, b or tie: which of two texts of the row judges find better"),
    "verdict_swapped": ("string", "the same by the replies for which they had changed places"),
    "strategy": ("string", "the name of the template that asked for the row"),
    "candidate_index": ("int64", "which of the n candidates of its parent this is, from 0"),
    "score": ("float64", "the higher the better; the stage says what it measures"),
    "metric": ("string", "what `score` measures, where stages differ in it"),
    "n_tokens": ("int64", "how many tokens a figure is a mean over"),
    "mean_nll": ("float64", "a model's mean surprise at a token, -log p in nats"),
    "mean_nll_alone": ("float64", "the same without the prompt"),
    "mean_nll_prompt": ("float64", "the same of the prompt's tokens"),
    "ifd": ("float64", "mean_nll divided by mean_nll_alone"),
    "mean_rank": ("float64", "of its tokens among all: 1 is the likeliest; the stage caps it"),
    "similarity": ("float64", "mean cosine of its tokens with each other"),
    "similarity_prompt": ("float64", "mean cosine of its tokens with the prompt's"),
    "n_items": ("int64", "how many items `score` is a mean over"),
    "parse_failures": ("int64", "how many of the answers behind `score` could not be read"),
    "n_grades": ("int64", "how many grades of a judge `score` is a mean over"),
    "is_correct": ("bool", "the answer equals the reference"),
    "teacher_answer": ("string", "what the teacher answered, beside a student's `answer`"),
    "teacher_is_correct": ("bool", "the same of the teacher's answer"),
    "agrees": ("bool", "all annotators gave the same label; null with fewer than two labels"),
    "finish_reason": ("string", "stop, length or error"),
    "skills": ("list[string]", "what solving the question needs"),
    "weight": ("float64", "how much the row counts: in a loss, or of a profile's skills"),
    "steps": ("list[string]", "a completion, cut into the steps of its reasoning"),
    "step_scores": ("list[float64]", "of each of `steps`, how likely it is right: 0 to 1"),
    "step_errors": ("int64", "of the calculations that a rationale writes out, how many are wrong"),
    "n_steps": ("int64", "how many calculations a rationale writes out"),
    "is_difficult": ("bool", "the student is not to be trusted with the question"),
    "difficulty_reason": ("string", "why `is_difficult`; null where it is not"),
    "judge": ("string", "correct or incorrect: what the teacher says of a student's answer"),
    "reason": ("string", "why: in the teacher's words, or what a plan goes by"),
    "missing_skills": ("list[string]", "the skills that a student has to strengthen"),
    "skill": ("string", "the one skill that the row is about"),
    "count": ("int64", "how often"),
    "weights": ("list[float64]", "a domain's shares of the mixtures so far"),
    "weight_low": ("float64", "lower end of the 95 % interval of `weight`"),
    "weight_high": ("float64", "upper end of the 95 % interval of `weight`"),
    "question_ids": ("list[string]", "the questions that the row sums up"),
    "subskill": ("string", "a part of `skill`; null: the skill as a whole"),
    "round": ("int64", "which round of a repeat the row is from, from 1"),
    "n": ("int64", "how many new rows a plan asks for"),
    "planned": ("int64", "how many it has asked for up to this round"),
    "action": ("string", "what the plan did to the skill's tree: explore, rest, fill"),
    "mistakes": ("string", "wrong answers, quoted"),
    "student_accuracy": ("float64", "the share of a student's answers that are right"),
    "source": ("string", "the stage whose rows a mixture took it from"),
    "source_id": ("string", "the training question that was selected"),
    "reference_ids": ("list[string]", "the rows that were shown to the model as references"),
    "agreement": ("int64", "how many of a question's sampled answers are this one"),
    "answer_entropy": ("float64", "of the shares of different sampled answers, in nats"),
    "error_rate": ("float64", "the share of sampled answers that are not the reference"),
    "n_answers": ("int64", "how many sampled answers a figure is over"),
    "error": ("string", "why the row is bad; null for a good one"),
    "kind": ("string", "what a preference pair is about: question, rationale or completion"),
    "mismatch_fields": ("list[string]", "in what a student's turn differs from an expert's"),
    "nll_preferred": ("float64", "-log p of the preferred text in nats, over all its tokens"),
    "n_preferred": ("int64", "how many tokens it has"),
    "nll_other": ("float64", "the same of the other text"),
    "n_other": ("int64", "how many tokens that has"),
    "nll_gap": ("float64", "how much lower the preferred text's nll a token is than the other's"),
    "margin": ("float64", "score of `chosen` minus score of `rejected`"),
    "reference_loss_before": ("float64", "mean loss of the reference rows"),
    "reference_loss_after": ("float64", "the same after one step on the row"),
    "gradient_norm": ("float64", "length of the gradient of `mean_nll`"),
    "nearest_task": ("string", "the task whose reference rows have the most similar gradients"),
    "model": ("string", "the name of the model that answered"),
    "shots": ("int64", "how many worked examples stood in the prompt"),
    "discrimination": ("float64", "2PL slope: how sharply an item tells examinees apart"),
    "difficulty": ("float64", "2PL location: the ability at which half answer it"),
    "n_prompt_tokens": ("int64", "tokens read"),
    "n_completion_tokens": ("int64", "tokens written"),
    "teacher_logps": ("list[float32]", "of each token in the loss, its log-probability"),
    "teacher_log_pbs": ("list[float32]", "after each, log-probability of a word boundary"),
    "teacher_top_ids": ("list[int32]", "the likeliest tokens at each, k a token, flat"),
    "predictive_strength": (
        "float64",
        "the share of pairs of models in which the one with the better benchmark finds it likelier",
    ),
    "teacher_top_logps": ("list[float32]", "the log-probabilities of `teacher_top_ids`"),
    "scored_by": ("string", "the model whose log-probabilities these are, with a digest"),
    "completion_ids": ("list[int32]", "the tokens of `completion` as sampled, its end included"),
    "rollout_logps": ("list[float32]", "of each, its log-probability at temperature 1, uncut"),
    "written_by": ("string", "the model that sampled `completion_ids`, with a digest"),
    "written_with": ("string", "a digest of its vocabulary: who has the same reads the ids as is"),
    "speakers": ("list[string]", "of a dialogue, who speaks each turn of `messages`"),
    "acts": ("list[string]", "of each turn, the act that its speaker declares; null: none"),
    "finish_reasons": ("list[string]", "of each turn, as finish_reason; null: it was given"),
    "n_turns": ("int64", "how many turns of a dialogue were written, those given apart"),
    "stop_reason": ("string", "why a dialogue ended"),
    "success_turn": ("int64", "the pupil's first turn with the right answer, from 1; null: none"),
    "telling_turn": ("int64", "the tutor's first turn that tells it; null: none"),
    "before_is_correct": ("bool", "the pupil's answer before the dialogue is right"),
    "after_is_correct": ("bool", "the same after it"),
    "scored_text": ("string", "a digest of what it read: the row's tokens, prompt and all"),
}


CONVERSATIONS = ("messages", "prompt", "completion", "chosen", "rejected")
"""Columns that may hold a conversation; all but the first hold text as a rule."""


def features(names: Iterable[str], *, like: Mapping[str, Any] | None = None) -> Features:
    """`datasets.Features` for `names`, added to those of `like`.

    A name that is not in COLUMNS is text (a tag that `parse` reads). A name that `like` has
    already keeps its place but gets our type, if it is not a conversation.
    """
    from datasets import Features, List, Value

    types: dict[str, Any] = {
        "string": Value("string"),
        "int64": Value("int64"),
        "float64": Value("float64"),
        "bool": Value("bool"),
        "list[string]": List(Value("string")),
        "list[float64]": List(Value("float64")),
        "list[float32]": List(Value("float32")),
        "list[int32]": List(Value("int32")),
        "messages": List({"role": Value("string"), "content": Value("string")}),
    }
    merged: Mapping[str, Any] = dict(like) if like is not None else {}
    wanted = {name: types[COLUMNS.get(name, ("string", ""))[0]] for name in names}
    return Features({**merged, **wanted})


SEED = "seed_"
"""Begins the names of the columns that say something of the question before."""
_OF_NO_QUESTION = frozenset({
    "id", "parent_id", "task", "strategy", "candidate_index", "model", "prompt", "completion",
    "finish_reason", "error", "n_prompt_tokens", "n_completion_tokens",
})  # fmt: skip


def of_seed(columns: Iterable[str], but: Collection[str] = ()) -> dict[str, str]:
    """What columns are called from now on if rows get another question: {old: new}.

    A reference answer, skills or a level belong to the question that they were written for. Where a
    row comes from and how it was made stays under its name, and so does its task.

    Args:
        columns: those of the rows before; without a question it is not another one.
        but: those that keep their names.
    """
    there = set(columns)
    about = there - _OF_NO_QUESTION - set(but) if "question" in there else set()
    return {name: f"{SEED}{name}" for name in about if not name.startswith(SEED)}


def note_seed(names: Mapping[str, str]) -> None:
    """Log what is renamed."""
    if names:
        log.info(
            "rows get another question: what was said about the one before is renamed, %s",
            ", ".join(f"{old} → {new}" for old, new in sorted(names.items())),
        )


def renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    """The row, or features, with columns called as `names` says {old: new}.

    A column that has one of the new names already gives way.
    """
    if not names:
        return dict(row)
    gone = set(names.values())
    return {names.get(name, name): value for name, value in row.items() if name not in gone}


def item_of(row: Row) -> str:
    """The id of the item that a row answers: rows of an exam have ids of their own."""
    return str(row["parent_id"] if "model" in row and row.get("parent_id") else row["id"])


def round_after(before: Iterable[Mapping[str, Any]]) -> int:
    """The number of the round after those of some rows; 1 if there are none."""
    return 1 + max((row["round"] for row in before), default=0)


def task_of(row: Mapping[str, Any]) -> str:
    """The row's task; rows without one belong to a single unnamed task."""
    return str(row.get("task") or "")


def by_task(rows: Dataset | Iterable[Row]) -> dict[str, list[Row]]:
    """Rows grouped by task, in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(task_of(row), []).append(row)
    return groups


def check_references(rows: Dataset | Iterable[Row], name: str) -> None:
    """Refuse items that nobody can answer rightly.

    Raises:
        DataError: a row of the stage `name` has a null or blank reference_answer.
    """
    without = [row["id"] for row in rows if not str(row["reference_answer"] or "").strip()]
    if without:
        which = f"item {without[0]}" if len(without) == 1 else f"{len(without)} items"
        first = "" if len(without) == 1 else f" (the first: {without[0]})"
        verb = "has" if len(without) == 1 else "have"
        raise DataError(
            f"{which} of '{name}' {verb} no reference_answer{first}; add it where they come from, "
            "or take them out there"
        )


def score_of(identity: str, value: Any, column: str, name: str) -> float | None:
    """A score as a number; None where there is none: null, NaN, or infinite.

    Raises:
        DataError: it is no number, so `column` of the stage `name` has no scores.
    """
    if value is None:
        return None
    if not isinstance(value, (int, float)):
        raise DataError(
            f"row {identity} of '{name}': '{column}' is {value!r}, not a number; "
            "name the column with the score (`by`)"
        )
    return float(value) if isfinite(value) else None
