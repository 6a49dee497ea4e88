"""How much teacher and student find likely alike, for pairs near and far: a table.

    python scripts/think_alike.py

Texts are tiny-student's own about word problems, drawn at temperature 1. Each line scores them
under another model, and compares it with tiny-teacher as `rollout_report` does. The table stands
in docs/watching-rollouts.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_distill.distillation.alignment.encoding import in_loss, row_encoder
from llm_distill.distillation.compared import Spoken, Vocabularies, compared
from llm_distill.distillation.teacher.scoring import TeacherScorer
from llm_distill.methods.rollouts import Shared
from llm_distill.models.sources import ModelSource

MODELS = Path(__file__).resolve().parent.parent / "data" / "models"
PIPELINE = """
name: think_alike
models:
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  questions: {stage: load_dataset, path: data/word_problems, split: train}
  drawn: {stage: select, rows: questions, n: 24, order: random}
  written:
    stage: generate
    rows: drawn
    model: student
    n: 2
    template: arte/exam.jinja
    variables: {task_description: Solve the word problem., examples: []}
    sampling: {temperature: 1.0, max_tokens: 72}
"""


def main() -> None:
    rows = _rows()
    prompts = [row["prompt"] for row in rows]
    others = [*prompts[2:], *prompts[:2]]  # two texts answer each
    student = _model("tiny-student", "text")
    cases = {
        "tiny-student": (student, prompts),
        "tiny-student, another row's prompt": (student, others),
        "tiny-student, no question": (student, ["Hello."] * len(rows)),
        "tiny-stat-student": (_model("tiny-stat-student", "text"), prompts),
        "SmolLM2-135M-Instruct": (_model("SmolLM2-135M-Instruct"), prompts),
        "tiny-stat-teacher": (_model("tiny-stat-teacher"), prompts),
        "tiny-teacher": (_model("tiny-teacher"), prompts),
    }
    for top_k in (20, 5):
        print(f"top_k: {top_k}; shared tokens, teacher's mass, student's mass")
        teacher = _spoken(_model("tiny-teacher"), rows, prompts, top_k)
        for name, (source, asked) in cases.items():
            shared = _shared(teacher, _spoken(source, rows, asked, top_k))
            n = sum(each.n_places for each in shared)
            parts = ("tokens", "of_teacher", "of_student")
            shares = [sum(getattr(each, part) for each in shared) / n for part in parts]
            print(f"  {name:36}", *(f"{share:7.1%}" for share in shares))


def _rows() -> list[Any]:
    import tempfile

    import llm_distill as ld

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "think_alike.yaml"
        file.write_text(PIPELINE)
        return list(ld.run(str(file), workspace=folder)["written"].dataset)


def _model(name: str, prompt_format: Any = "auto") -> ModelSource:
    return ModelSource(name, str(MODELS / name), prompt_format=prompt_format)


def _spoken(source: ModelSource, rows: list[Any], prompts: list[str], top_k: int) -> Any:
    encoder = row_encoder(source, None)
    scorer = TeacherScorer(source, encoder, batch_tokens=2048, top_k=top_k, device="cpu")
    encoded = [
        encoder.encode(
            [
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": row["completion"]},
            ]
        )
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    scores = scorer.score(encoded, [row["id"] for row in rows])
    scorer.close()
    return encoder, [
        Spoken(
            row,
            found["teacher_logps"].astype(float),
            found["teacher_top_ids"].reshape(len(in_loss(row)), -1),
            found["teacher_top_logps"].reshape(len(in_loss(row)), -1).astype(float),
        )
        for row, found in zip(encoded, scores, strict=True)
    ]


def _shared(teacher: Any, student: Any) -> list[Shared]:
    vocabularies = Vocabularies(teacher[0], student[0])
    found = (
        vocabularies.shared(ours, theirs, compared(ours, theirs).chunks)
        for ours, theirs in zip(teacher[1], student[1], strict=True)
    )
    return [shared for shared in found if shared is not None]


if __name__ == "__main__":
    main()
