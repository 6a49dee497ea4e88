"""The Python of reports and cards is run, and answers as `ask` does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_distill.publish.cards import Origin
from llm_distill.publish.lineage import read_lineage
from llm_distill.publish.model_card import model_card
from llm_distill.publish.snippet import Asking, Loading, asking, snippet
from llm_distill.report.collect import collect
from llm_distill.report.page import render
from llm_distill.report.use import _loading, use
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import read_run

MODELS = Path(__file__).parents[2] / "data" / "models"


@pytest.fixture
def view(finished):
    workspace = Workspace(finished)
    return collect(read_run(workspace, "made"), workspace)


@pytest.fixture
def run_code(capsys):
    def run(code: str) -> str:
        exec(compile(code, "snippet", "exec"), {})
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_the_reports_snippet_answers_as_ask_does(at_run, view, run_code):
    asked = at_run("ask", "made", "tuned", "-q", "What is 2 + 2?").out
    found = use(view)
    assert found.stage == "tuned"
    assert run_code(found.python).strip() == asked.strip().removesuffix(" …").strip()
    assert found.commands[0] == f"llm-distill ask {view.record.name} tuned"
    assert "PeftModel.from_pretrained(model, &#34;" in render(view)


@pytest.mark.slow
def test_adapters_of_a_chat_on_a_trained_model(at_run, view, run_code):
    stage = view.stage("again")
    loading = _loading(view, stage)
    assert loading.path == str(view.stage("spoken").directory)
    assert loading.adapters == (str(stage.directory),)
    written = run_code(snippet(loading, Asking(is_chat=True, max_tokens=8)))
    # Without the system message, which rows of the training had.
    asked = at_run(
        "ask", "made", "again", "-q", "What is 2 + 2?", "--max-tokens", 8, "--system", ""
    )
    assert written.strip() == asked.out.strip().removesuffix(" …").strip()


@pytest.mark.slow
def test_the_cards_snippet_answers_as_ask_does(at_run, view, run_code, finished):
    exam = read_lineage(view.stage("exam").directory)
    lineage = read_lineage(view.stage("tuned").directory)
    card = model_card(Origin(lineage, (exam,), view.settings), "me/tuned", None, is_adapter=True)
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert '("tiny-student")  # not on the Hub' in code
    code = code.replace('"tiny-student"', repr(str(MODELS / "tiny-student")))
    code = code.replace('"me/tuned"', repr(str(view.stage("tuned").directory)))
    asked = at_run("ask", "made", "tuned", "-q", "What is 2 + 2?").out
    assert run_code(code).strip() == asked.strip().removesuffix(" …").strip()


@pytest.mark.slow
def test_a_template_of_the_users_own_is_named_and_not_quoted(view, tmp_path, monkeypatch):
    manifest = view.stage("exam").manifest
    (tmp_path / "own.jinja").write_text("Secret recipe: {{ question }}")
    monkeypatch.chdir(tmp_path)
    settings = {**manifest.settings, "template": "own.jinja"}
    own = manifest.model_copy(update={"settings": settings})
    shown = snippet(Loading("m"), asking(False, own, None))
    assert "prompt = \"Secret recipe: \" + question  # as 'exam' asks" in shown
    hidden = snippet(Loading("m"), asking(False, own, None, quotes=False))
    assert "prompt = question  # 'exam' forms it by its template own.jinja" in hidden
    changed = own.model_copy(update={"identity": {"templates": {"own.jinja": "0" * 64}}})
    assert "Secret" not in snippet(Loading("m"), asking(False, changed, None))


def test_a_template_that_is_more_than_its_values_in_a_row_is_named(tmp_path, monkeypatch):
    from llm_distill.prompts import load_template

    monkeypatch.chdir(tmp_path)
    for text, shown in (
        ("{{ question }} of {{ task }}", "prompt = question + \" of \" + task  # as 'e' asks"),
        ("{{ question | upper }}", "prompt = question  # 'e' forms it by t.jinja"),
        ("{% if question | length > 3 %}long{% endif %}", "prompt = question  # 'e' forms it by"),
        ("{{ question }} {{ question }}", 'prompt = question + " " + question'),
    ):
        (tmp_path / "t.jinja").write_text(text)
        code = snippet(Loading("m"), Asking(False, "e", load_template("t.jinja"), {}))
        assert shown in code, code
        compile(code, "snippet", "exec")
