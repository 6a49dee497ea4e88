"""load_dataset: every kind of source gives the same rows, and bad input names its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.rows.columns import COLUMNS, features
from llm_distill.rows.shapes import check_row
from llm_distill.stages.load_dataset import LoadDataset

Run = Callable[..., Any]
RAW = [{"input": f"What is {i} + 1?", "target": str(i + 1), "level": i} for i in range(8)]
MAPPED = {"question": "input", "reference_answer": "target"}


def stage(path: Path | str, **settings: Any) -> LoadDataset:
    return LoadDataset(stage="load_dataset", path=str(path), **settings)


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write(kind: str, folder: Path) -> Path:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list(RAW)
    path = folder / f"test.{kind}"
    if kind == "jsonl":
        return write_lines(path, RAW)
    if kind == "json":
        path.write_text(json.dumps(RAW, indent=1), encoding="utf-8")
    elif kind == "csv":
        rows.to_csv(str(path))
    elif kind == "parquet":
        rows.to_parquet(str(path))
    elif kind == "saved":
        rows.save_to_disk(str(path))
    else:
        DatasetDict({"test": rows}).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "saved", "saved_dict"])
def test_each_kind_of_source_gives_the_same_rows(kind: str, tmp_path: Path, run_stage: Run) -> None:
    settings = stage(write(kind, tmp_path), split="test[2:5]", columns=MAPPED, task="sums")
    run = run_stage(settings)
    assert [row["id"] for row in run.rows] == ["test-2", "test-3", "test-4"]
    level = "4" if kind == "csv" else 4  # a CSV does not say that it is a number
    assert run.rows[-1] == {
        "id": "test-4",
        "question": "What is 4 + 1?",
        "reference_answer": "5",
        "level": level,
        "task": "sums",
    }
    known = settings.output_columns({})
    assert known is None if kind not in ("jsonl", "csv") else known == set(run.features)


def test_the_bundled_problems_keep_their_ids_and_skills(run_stage: Run) -> None:
    settings = stage("data/word_problems", split="seeds")
    run = run_stage(settings)
    assert run.rows[0]["id"] == "seeds-0000"
    assert isinstance(run.rows[0]["skills"], list)
    assert str(run.features["skills"].feature) == "Value('string')"
    assert settings.output_columns({}) == set(run.features)
    assert len(settings.source_digests()["seeds.jsonl"]) == 64


@pytest.mark.parametrize(
    ("split", "expected"),
    [("test[-2:]", [6, 7]), ("test[:-6]", [0, 1]), ("train[6:99]", [6, 7]), ("train", 8)],
)
def test_slices_are_pythons(split: str, expected: Any, tmp_path: Path, run_stage: Run) -> None:
    for kind in ("jsonl", "saved"):
        rows = run_stage(stage(write(kind, tmp_path), split=split)).rows
        levels = [row["level"] for row in rows]
        assert levels == (expected if isinstance(expected, list) else list(range(expected)))


def test_several_sub_folders_are_tasks(tmp_path: Path, run_stage: Run) -> None:
    for task in ("sums", "days"):
        write_lines(tmp_path / "bench" / task / "test.jsonl", RAW[:2])
    settings = stage(tmp_path / "bench", name=("sums", "days"), split="test", columns=MAPPED)
    run = run_stage(settings)
    assert [(row["id"], row["task"]) for row in run.rows] == [
        ("sums-test-0", "sums"),
        ("sums-test-1", "sums"),
        ("days-test-0", "days"),
        ("days-test-1", "days"),
    ]
    assert len(settings.source_digests()) == 2
    assert "task" in (settings.output_columns({}) or ())
    limited = stage(tmp_path / "bench", name=("sums", "days"), split="test", limit=3)
    assert len(run_stage(limited).rows) == 3


def test_columns_can_be_swapped_and_replaced(tmp_path: Path, run_stage: Run) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"a": "1", "b": "2", "c": "3"}])
    run = run_stage(stage(path, columns={"a": "b", "b": "a", "question": "c"}))
    assert run.rows == [{"id": "train-0", "a": "2", "b": "1", "question": "3"}]


def test_alpaca_and_sharegpt_shapes(tmp_path: Path, run_stage: Run) -> None:
    alpaca = [
        {"instruction": "Add.", "input": "1 2", "output": "3", "source": "x"},
        {"instruction": "Say hi.", "input": "", "output": "hi", "source": "y"},
    ]
    settings = stage(write_lines(tmp_path / "alpaca.jsonl", alpaca))
    rows = run_stage(settings).rows
    assert [(r["prompt"], r["completion"]) for r in rows] == [
        ("Add.\n\n1 2", "3"),
        ("Say hi.", "hi"),
    ]
    assert settings.output_columns({}) == {"id", "source", "prompt", "completion"} == set(rows[0])
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    settings = stage(write_lines(tmp_path / "share.jsonl", [{"id": 5, "conversations": turns}]))
    run = run_stage(settings)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert run.rows == [{"id": "5", "messages": messages}]
    assert settings.output_columns({}) == {"id", "messages"}


def test_what_stands_beside_and_in_sharegpts_turns(tmp_path: Path, run_stage: Run) -> None:
    rows = [
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Bad", "weight": 0, "loss": "no"},
                {"from": "human", "value": "Well?", "weight": None},
                {"from": "gpt", "value": "Good", "weight": 1, "loss": None, "thoughts": "?"},
            ],
            "system": "Be short.",
        },
        {
            "conversations": [
                {"role": "user", "content": "A"},
                {"role": "assistant", "content": "B"},
            ]
        },
    ]
    settings = stage(write_lines(tmp_path / "share.jsonl", [*rows, {**rows[1], "system": ""}]))
    run = run_stage(settings)
    first, second, third = (
        [(m["role"], m["content"], m.get("weight")) for m in row["messages"]] for row in run.rows
    )
    assert set(run.features["messages"].feature) == {"role", "content", "weight"}
    assert first == [
        ("system", "Be short.", None), ("user", "Hi", None), ("assistant", "Bad", 0.0),
        ("user", "Well?", None), ("assistant", "Good", 1.0),
    ]  # fmt: skip
    assert second == third == [("user", "A", None), ("assistant", "B", None)]
    assert set(run.rows[0]) == settings.output_columns({}) == {"id", "messages"}
    assert run.warnings == ["keys of messages that are not kept: loss (1), thoughts (1)"]
    plain = run_stage(stage(write_lines(tmp_path / "plain.jsonl", rows[1:])))
    assert plain.rows[0]["messages"][0] == {"role": "user", "content": "A"}
    apart = stage(tmp_path / "share.jsonl", columns={"instructions": "system"}, required=[])
    assert run_stage(apart).rows[0]["instructions"] == "Be short."


def test_extra_columns_of_changing_types_and_keys(tmp_path: Path, run_stage: Run) -> None:
    rows = [
        {"id": "a", "x": None, "tags": [], "meta": {"p": 1}},
        {"id": "b", "x": 1, "tags": ["t"], "meta": {"q": "s"}},
        {"id": "c", "x": 2.5, "empty": None},
    ]
    run = run_stage(stage(write_lines(tmp_path / "a.jsonl", rows)))
    assert [row["x"] for row in run.rows] == [None, 1, 2.5]
    assert str(run.features["x"]) == "Value('float64')"
    assert str(run.features["empty"]) == "Value('string')"
    assert [row["meta"] for row in run.rows] == ['{"p": 1}', '{"q": "s"}', None]
    assert "column 'meta' is kept as JSON text" in "".join(run.warnings)


def test_a_csv_column_of_ours_gets_our_type(tmp_path: Path, run_stage: Run) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,score,is_correct,note\na,0.5,true,"two\nlines"\nb,,False,7\n')
    run = run_stage(stage(path))
    assert run.rows == [
        {"id": "a", "score": 0.5, "is_correct": True, "note": "two\nlines"},
        {"id": "b", "score": None, "is_correct": False, "note": "7"},
    ]
    path.write_text("id,score\na,much\n")
    with pytest.raises(DataError, match=r"a.csv:2: column 'score' should be float64, but 'much'"):
        run_stage(stage(path))


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in COLUMNS.values()} - {"messages"}))
def test_every_type_of_our_columns_is_known(kind: str) -> None:
    name = next(name for name, (own, _) in COLUMNS.items() if own == kind)
    value: Any = {"s": "x", "i": 3, "f": 0.5, "b": True}[kind.removeprefix("list[")[0]]
    given = [value, value] if kind.startswith("list[") else value
    check_row({name: given}, (), "a")
    check_row({name: None}, (), "a")
    with pytest.raises(DataError, match="but .* is dict"):
        check_row({name: [{}] if kind.startswith("list[") else {}}, (), "a")


@pytest.mark.parametrize("kind", ["jsonl", "saved"])
def test_scored_rows_come_back_as_they_were(kind: str, tmp_path: Path, run_stage: Run) -> None:
    import numpy as np
    from datasets import Dataset

    names = ["teacher_logps", "teacher_log_pbs", "teacher_top_ids", "teacher_top_logps"]
    types = features(["id", *names, "probabilities", "scored_by"])
    logps = np.log(np.array([0.1, 0.7, 1.0], np.float32)).tolist()
    rows = [
        {
            "id": "a",
            "teacher_logps": logps,
            "teacher_log_pbs": [0, -1, -2],  # whole numbers are numbers
            "teacher_top_ids": [3, 2**31 - 1, 0],
            "teacher_top_logps": logps[::-1],
            "probabilities": [0.1, 0.9],
            "scored_by": "t 1",
        },
        {**dict.fromkeys(types), "id": "b", "teacher_logps": []},
    ]
    path = tmp_path / f"train.{kind}"
    if kind == "jsonl":
        write_lines(path, rows)
    else:
        Dataset.from_list(rows, features=types).save_to_disk(str(path))
    run = run_stage(stage(path))
    assert {name: run.features[name] for name in types} == types
    assert run.rows == rows
    again = Dataset.from_list(run.rows, features=run.features)[0]
    assert again["teacher_logps"] == logps
    as_array = {**rows[0], "teacher_logps": np.array(logps, np.float32)}
    check_row(as_array, (), "a")


GOOD = {"id": "a", "question": "q", "reference_answer": "1"}
BAD_LINES: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("broken line", [GOOD, "", '{"id": "b"'], {}, r"a\.jsonl:3: not JSON"),
    ("no object", [GOOD, "[1]"], {}, r"a\.jsonl:2: a row is an object, but this is list"),
    ("empty", [], {}, r"a\.jsonl, split train: the dataset has no rows"),
    ("empty slice", [GOOD], {"split": "train[5:]"}, r"train\[5:\]: the dataset has no rows"),
    ("null", [GOOD, {**GOOD, "id": "b", "question": None}], {}, r":2: column 'question' is null"),
    (
        "null in a column that is asked for",
        [GOOD, {"id": "b", "question": "q"}],
        {"required": ["reference_answer"]},
        r":2: column 'reference_answer' is null",
    ),
    (
        "null in a renamed column",
        [{"answer_": "1"}, {"answer_": None}],
        {"columns": {"answer": "answer_"}},
        r":2: column 'answer' is null",
    ),
    ("no such required column", [GOOD], {"required": ["qestion"]}, "did you mean 'question'"),
    ("wrong type", [{**GOOD, "question": [7]}], {}, r":1: column 'question' should be string"),
    (
        "type that changes",
        [{**GOOD, "note": "x"}, {**GOOD, "id": "b", "note": 7}],
        {},
        r":2: column 'note' is int \(7\), but string in the rows above",
    ),
    ("truth is no number", [{"score": True}], {}, r":1: column 'score' should be float64"),
    (
        "list of another type",
        [{**GOOD, "skills": [1]}],
        {},
        r":1: column 'skills' should be list\[string\], but 1 is int",
    ),
    ("no list", [{**GOOD, "skills": "x"}], {}, r"should be list\[string\], but 'x' is str"),
    (
        "no number in a list",
        [{**GOOD, "teacher_logps": [-1.5, 0, None]}],
        {},
        r":1: column 'teacher_logps' should be list\[float32\], but None is NoneType",
    ),
    (
        "no whole number in a list",
        [{**GOOD, "teacher_top_ids": [3, 1.5]}],
        {},
        r"should be list\[int32\], but 1.5 is float",
    ),
    ("same id twice", [GOOD, {**GOOD, "question": "r"}], {}, r"a\.jsonl:1 and .*a\.jsonl:2 have"),
    ("id that is empty", [GOOD, {**GOOD, "id": ""}], {}, r":2: its id is empty"),
    (
        "missing column",
        [GOOD],
        {"columns": {"question": "questions"}},
        r"no column 'questions' \(for 'question'\); did you mean 'question'\? its columns: id, q",
    ),
    ("shape", [GOOD], {"format": "alpaca"}, "no column 'instruction', which format alpaca needs"),
    (
        "role",
        [{"conversations": [{"from": "humn", "value": "x"}]}],
        {},
        r":1, turn 1: unknown role 'humn'; did you mean 'human'",
    ),
    (
        "system twice",
        [{"conversations": [{"from": "system", "value": "x"}], "system": "y"}],
        {},
        ":1: both 'system' and the first turn are a system message; keep the column apart",
    ),
    (
        "weight",
        [{"conversations": [{"from": "gpt", "value": "x", "weight": "all"}]}],
        {},
        ":1, turn 1: weight should be a number from 0, but is 'all'",
    ),
    ("turns", [{"conversations": []}], {}, ":1: 'conversations' holds no turns"),
    ("text", [{"instruction": "x", "output": 3}], {}, ":1: 'output' should be text, but is 3"),
    ("split", [GOOD], {"split": "train[:10%]"}, r"expected a name, or a slice like train\[3:103\]"),
]


@pytest.mark.parametrize(
    ("lines", "settings", "message"), [c[1:] for c in BAD_LINES], ids=[c[0] for c in BAD_LINES]
)
def test_bad_records_are_named(
    lines: list[Any], settings: dict[str, Any], message: str, tmp_path: Path, run_stage: Run
) -> None:
    path = write_lines(tmp_path / "a.jsonl", lines)
    with pytest.raises(DataError, match=message):
        run_stage(stage(path, **settings))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"id": "a"}\n{"id": "\xff"}\n', r"a\.jsonl:2: not UTF-8"),
        ("a.json", b'[{"id": "a"},\n {"id" 3}]', r"a\.json:2: not JSON"),
        ("a.json", b'[{"id": "a"}, 3]', r"a\.json, row 1: a row is an object"),
        ("a.csv", b"id,x\na,1\nb\n", r"a\.csv:3: 1 values under 2 column names"),
        ("a.csv", b"id,id\na,1\n", r"a\.csv:1: the header names id more than once"),
        ("a.csv", b'id,x\na,"1\n', r"a\.csv:2: not CSV"),
        ("a.csv", b"id,x\n", "the dataset has no rows"),
        ("a.parquet", b"not parquet", r"a\.parquet: not a Parquet file"),
        ("a.txt", b"x", r"unknown kind of file; .*\.csv"),
    ],
)
def test_bad_files_are_named(
    name: str, content: bytes, message: str, tmp_path: Path, run_stage: Run
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    settings = stage(path)
    settings.output_columns({})  # does not fail: validate has other things to say
    with pytest.raises(DataError, match=message):
        run_stage(settings)


def test_an_empty_saved_dataset_and_a_bad_split(tmp_path: Path, run_stage: Run) -> None:
    from datasets import Dataset

    Dataset.from_dict({"question": []}).save_to_disk(str(tmp_path / "none"))
    with pytest.raises(DataError, match="the dataset has no rows"):
        run_stage(stage(tmp_path / "none"))
    path = write("saved_dict", tmp_path)
    with pytest.raises(DataError, match="no split 'tests'; did you mean 'test'"):
        run_stage(stage(path, split="tests"))


def test_missing_files_are_answered_with_the_nearest(tmp_path: Path, run_stage: Run) -> None:
    write_lines(tmp_path / "train.jsonl", RAW)
    with pytest.raises(DataError, match=r"no file .*trian.jsonl'; did you mean 'train.jsonl'"):
        run_stage(stage(tmp_path / "trian.jsonl"))
    with pytest.raises(DataError, match="no files of split 'tain'; did you mean 'train'"):
        run_stage(stage(tmp_path, split="tain"))
    with pytest.raises(DataError, match=r"'data/word_problem'; did you mean 'word_problems'"):
        run_stage(stage("data/word_problem"))


def test_an_unreachable_hub_is_said(run_stage: Run) -> None:
    settings = stage("nobody/nothing-of-this-name")
    with pytest.raises(DataError, match="is not a local file or directory, and the Hub gave"):
        run_stage(settings)
    assert settings.output_columns({}) is None


def test_a_hub_name_is_known_by_its_cached_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = stage("some/set", revision="v1")
    assert settings.source_digests() == {"some/set": "v1"}
    reference = tmp_path / "datasets--some--set" / "refs" / "v1"
    reference.parent.mkdir(parents=True)
    reference.write_text("abc123\n")
    assert settings.source_digests() == {"some/set": "abc123"}


def test_hub_rows_are_sliced_and_numbered_here(
    monkeypatch: pytest.MonkeyPatch, run_stage: Run
) -> None:
    from datasets import Dataset

    asked: list[Any] = []

    def load_dataset(path: str, name: str | None, **settings: Any) -> Dataset:
        asked.append((path, name, settings))
        return Dataset.from_list(RAW)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    settings = stage("some/set", name=("a", "b"), split="test[3:5]", revision="v1", columns=MAPPED)
    ids = [row["id"] for row in run_stage(settings).rows]
    assert ids == ["a-test-3", "a-test-4", "b-test-3", "b-test-4"]
    assert asked == [("some/set", name, {"split": "test", "revision": "v1"}) for name in "ab"]


def test_checking_columns_does_not_import_datasets() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from llm_distill.stages.load_dataset import LoadDataset as L;"
        "s = L(stage='load_dataset', path='data/word_problems', split='test');"
        "assert 'question' in s.output_columns({}); s.source_digests();"
        "assert not {'datasets', 'pyarrow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_changed_file_has_another_digest(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", RAW)
    before = stage(path).source_digests()
    write_lines(path, RAW[:-1])
    assert stage(path).source_digests() != before


def test_every_split_of_a_saved_dataset_has_its_own_digest(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    digests = []
    for text in ("one", "two"):
        train, test = (
            Dataset.from_dict({"question": ["q"]}),
            Dataset.from_dict({"question": [text]}),
        )
        DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / text))
        digests.append(stage(tmp_path / text, split="test").source_digests())
    assert digests[0].keys() == digests[1].keys()
    assert digests[0] != digests[1]


def test_odd_text_in_json_is_named(tmp_path: Path, run_stage: Run) -> None:
    for name, content in (("a", '{"question": "\\ud800"}'), ("b", "[" * 100_000)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(f'{{"question": "fine"}}\n{content}\n')
        with pytest.raises(DataError, match=rf"{name}\.jsonl:2"):
            run_stage(stage(path))


def test_a_file_has_no_split_but_its_own(tmp_path: Path, run_stage: Run) -> None:
    path = write_lines(tmp_path / "rows.jsonl", RAW[:2])
    with pytest.raises(DataError, match="is one file, with no split 'trian' of their own"):
        run_stage(stage(path, split="trian", columns=MAPPED))
    assert len(run_stage(stage(path, split="rows", columns=MAPPED)).rows) == 2


def test_shards_patterns_and_compression(tmp_path: Path, run_stage: Run) -> None:
    import gzip

    whole = run_stage(stage(write_lines(tmp_path / "all.jsonl", RAW), columns=MAPPED)).rows
    for number, half in enumerate((RAW[:3], RAW[3:])):
        path = write_lines(tmp_path / f"train-{number:05}-of-00002.jsonl", half)
        shard = tmp_path / "d" / "data" / f"{path.name}.gz"
        shard.parent.mkdir(parents=True, exist_ok=True)
        shard.write_bytes(gzip.compress(path.read_bytes()))
    for path in (tmp_path / "d", f"{tmp_path}/d/**/*.gz"):
        settings = stage(path, columns=MAPPED)
        assert run_stage(settings).rows == whole
        assert len(settings.source_digests()) == 2
        assert settings.hub_datasets() == []
    with pytest.raises(DataError, match="no files of split 'test'; .*allowed: train"):
        run_stage(stage(tmp_path / "d", split="test"))
    with pytest.raises(DataError, match="no file is like"):
        run_stage(stage(f"{tmp_path}/none/*.jsonl"))


def test_numbers_in_columns_of_text_stay_as_they_are_written(
    tmp_path: Path, run_stage: Run
) -> None:
    path = tmp_path / "rows.jsonl"
    written = ["204", "1e3", "0.10", "12345678901234567890.123456789", "-0.0", '"a"']
    path.write_text("".join(f'{{"question": "q", "answer": {each}}}\n' for each in written))
    run = run_stage(stage(path, columns={"question": "question", "reference_answer": "answer"}))
    assert [row["reference_answer"] for row in run.rows] == [each.strip('"') for each in written]


def test_what_wraps_rows_is_taken_off(tmp_path: Path, run_stage: Run) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": "1", "data": [{"question": "a"}, {"question": "b"}]}))
    assert [row["question"] for row in run_stage(stage(path)).rows] == ["a", "b"]
    path.write_text(json.dumps({"question": "a", "tags": ["x"]}, indent=1))
    assert [row["question"] for row in run_stage(stage(path)).rows] == ["a"]


def test_tables_of_text(tmp_path: Path, run_stage: Run) -> None:
    (tmp_path / "a.tsv").write_text("question\tscore\na, b\t0.5\n")
    assert run_stage(stage(tmp_path / "a.tsv")).rows[0] == {
        "id": "train-0", "question": "a, b", "score": 0.5,
    }  # fmt: skip
    (tmp_path / "B.CSV").write_bytes(b"question,n\r" + b"x" * 200_000 + b",1\rb,2")
    rows = run_stage(stage(tmp_path / "B.CSV")).rows
    assert [len(row["question"]) for row in rows] == [200_000, 1]


def test_maps_of_parquet_are_lists_of_pairs(tmp_path: Path, run_stage: Run) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.map_(pa.string(), pa.list_(pa.map_(pa.string(), pa.int64())))
    table = pa.table({
        "question": ["a", "b"],
        "tags": pa.array([[("x", [[("y", 1)]])], None], kind),
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet")
    first, second = run_stage(stage(tmp_path / "a.parquet")).rows
    assert first["tags"] == [{"key": "x", "value": [[{"key": "y", "value": 1}]]}]
    assert second["tags"] is None


def test_half_a_surrogate_pair_is_named_and_a_long_cell_is_cut(
    tmp_path: Path, run_stage: Run
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "ok"}\n{"question": "bad \\ud83d"}\n')
    with pytest.raises(DataError, match=":2: column 'question' has half of a surrogate pair"):
        run_stage(stage(path))
    path.write_text('{"quest\\ud83dion": "a"}\n')
    with pytest.raises(DataError, match=":1: the column name 'quest.*ion' has half of a surrogate"):
        run_stage(stage(path))
    path.write_text(json.dumps({"question": {"a": "x" * 9000}}) + "\n")
    with pytest.raises(
        DataError, match=r"rename it with columns: \{my_question: question\}"
    ) as said:
        run_stage(stage(path))
    assert len(str(said.value)) < 400


def test_files_of_one_name_in_two_folders_have_a_digest_each(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write_lines(tmp_path / folder / "1.jsonl", [{"question": folder}])
    settings = stage(f"{tmp_path}/*/1.jsonl")
    before = settings.source_digests()
    write_lines(tmp_path / "a" / "1.jsonl", [{"question": "other"}])
    after = settings.source_digests()
    assert sum(before[place] != after[place] for place in before) == 1
    assert len(before) == 2


def test_a_configuration_of_the_readme_has_its_splits(tmp_path: Path, run_stage: Run) -> None:
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: de\n  data_files:\n  - {split: test, path: x/first.jsonl}\n"
        "---\n"
    )
    (tmp_path / "x").mkdir()
    write_lines(tmp_path / "x" / "first.jsonl", [{"question": "a"}])
    settings = stage(tmp_path, name="de", split="test")
    assert [row["question"] for row in run_stage(settings).rows] == ["a"]
    assert list(settings.source_digests()) == ["de/x/first.jsonl"]
