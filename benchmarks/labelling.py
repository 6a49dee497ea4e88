"""Calls that are made twice when labelling with skills is killed and started again.

    python benchmarks/labelling.py

As benchmarks/killed.py does for `generate`: SIGKILL when the server has had half of the calls, then
the same command again, to its end. Bar: at most as many calls twice as were open at the kill, so
the concurrency. Labels are held to the list, as with any server.
"""

from __future__ import annotations

import argparse

from hardware import describe
from killed import LATENCY, killed_at
from loopback import OURS
from table import show

SKILLS = [f"skill_{number}" for number in range(120)]
"""As many as the paper's list has."""

PIPELINE = """
name: labelling
models:
  teacher:
    model_name_or_path: loopback
    engine: {{kind: openai, base_url: "{url}", model: loopback, max_concurrency: {concurrency}}}
stages:
  prompts: {{stage: load_dataset, path: prompts.jsonl}}
  skills: {{stage: load_skills, path: skills.yaml}}
  answers: {{stage: label_skills, rows: prompts, skills: skills, model: teacher, template: l.jinja}}
"""
FILES = {
    "pipeline.yaml": PIPELINE,
    "skills.yaml": "".join(f"- {skill}\n" for skill in SKILLS),
    "l.jinja": "{% for skill in skills %}\n- {{ skill }}\n{% endfor %}\n{{ question }}",
}
ANSWER = f"<skill>{SKILLS[3]}, {SKILLS[70]}</skill> <reason>It needs both.</reason>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--at", type=float, nargs="+", default=[0.5], help="of the calls")
    parser.add_argument("--patience", type=float, default=60, help="seconds without a call")
    options = parser.parse_args()
    print(describe("aiohttp", "datasets", "llm-distill"))
    n_rows, concurrency = options.rows, options.concurrency
    lines = [
        killed_at(share, OURS, n_rows, concurrency, options.patience, FILES, ANSWER)
        for share in options.at
    ]
    print(f"\n{n_rows:,} questions, concurrency {concurrency}, {LATENCY:g} ms latency")
    show(("killed at", "calls before", "calls in all", "twice", f"<= {concurrency}", "rows"), lines)


if __name__ == "__main__":
    main()
