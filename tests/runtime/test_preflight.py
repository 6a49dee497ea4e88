"""What stops a run before its first request, all at once, and what is left to the run."""

from __future__ import annotations

import json
import shutil
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from llm_distill.runtime import preflight
from llm_distill.runtime.hardware import Hardware

TINY = str(Path(__file__).parents[2] / "data" / "models" / "tiny-student")
N_BYTES = 387744 * 4
"""Of its weights, in float32."""
GIB = 2**30


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a pipeline file over 20 rows of a file; gives its name."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps({"id": str(n), "question": f"{n}?"}) + "\n" for n in range(20))
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "ask.jinja").write_text("{{ question }}")

    def put(stages, **models) -> str:
        given = {
            name: {"model_name_or_path": TINY, "prompt_format": "text", **model}
            for name, model in models.items()
        }
        file = {
            "name": "p",
            "models": given,
            "stages": {"rows": {"stage": "load_dataset", "path": "rows.jsonl"}, **stages},
        }
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
        return "p.yaml"

    return put


@pytest.fixture
def machine(monkeypatch):
    """Says what the machine has."""

    def has(gpus=0, gpu_bytes=None, ram_bytes=64 * GIB, free_bytes=64 * GIB) -> None:
        found = Hardware(gpus, gpu_bytes, ram_bytes)
        monkeypatch.setattr(preflight, "this_machine", lambda: found)
        usage = namedtuple("usage", "total used free")(1, 1, free_bytes)
        monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)

    return has


ASK = {
    "stage": "generate",
    "rows": "rows",
    "model": "m",
    "template": "ask.jinja",
    "sampling": {"max_tokens": 5},
}
TRAIN = {"stage": "train_sft", "rows": "answers", "model": "m", "prompt_template": "ask.jinja"}


def refused(cli, *arguments) -> str:
    """What `run` says as it refuses; nothing has begun, and `plan` says the same."""
    from llm_distill.errors import EXIT_CODES

    found = cli("run", *arguments)
    assert found.code not in (0, 1), found
    assert "▶" not in found.out
    assert not list(Path("data/runs").glob("*/*"))
    planned = cli("plan", *arguments)
    assert (planned.code, planned.err) == (found.code, found.err)
    assert "to run" in planned.out
    shown = json.loads(cli("plan", *arguments, "--json").out)
    assert len(shown["problems"]) == found.err.count("\n") - 1
    assert found.code in EXIT_CODES
    return found.err


def test_a_model_that_is_not_there_is_said_once(write, cli):
    file = write(
        {"answers": ASK, "more": ASK, "student": TRAIN, "exam": {**ASK, "model": "student"}},
        m={"model_name_or_path": "org/absent"},
    )
    said = refused(cli, file)
    assert said.count("org/absent is neither a directory nor in the Hub's cache") == 1
    assert "p.yaml:4: models.m.model_name_or_path" in said
    assert "HF_HUB_OFFLINE is set; download it where there is a network" in said


def test_only_what_would_run_is_looked_at(write, cli):
    answers = {"kind": "scripted", "function": "tests.engines.test_ray:reply"}
    file = write(
        {"answers": ASK, "last": {**ASK, "model": "o"}},
        m={"engine": answers},
        o={"model_name_or_path": "org/absent"},
    )
    assert cli("plan", file, "--until", "answers").code == 0
    assert cli("plan", file).code == 4


class Hub(BaseHTTPRequestHandler):
    """Says of each model what its name says."""

    def do_HEAD(self) -> None:
        name = self.path.split("/")[2]
        status, error = {
            "gated": (403, "GatedRepo"),
            "gated-without-token": (401, "GatedRepo"),
            "absent": (404, "RepoNotFound"),
            "old": (404, "RevisionNotFound"),
            "busy": (503, ""),
        }.get(name, (200, ""))
        self.send_response(status)
        self.send_header("X-Error-Code", error)
        self.send_header("X-Error-Message", "no")
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None: ...


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    at = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", at)
    template = f"{at}/{{repo_id}}/resolve/{{revision}}/{{filename}}"  # HF_ENDPOINT gives both
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gated", "is gated, and your token, if there is one, has no access: ask for it at "),
        ("gated-without-token", "is gated, and your token"),
        ("absent", "is neither a directory nor on the Hub, or it is private: mend the name"),
        ("old", "has no revision None on the Hub"),
        ("busy", None),
        ("there", None),
    ],
)
def test_what_the_hub_says_of_a_model(name, said, hub, write, cli):
    file = write({"answers": ASK}, m={"model_name_or_path": f"org/{name}"})
    found = cli("plan", file)
    assert found.code == (0 if said is None else 4)
    assert said is None or f"models.m.model_name_or_path: org/{name} {said}" in found.err


def test_a_hub_that_cannot_be_reached(hub, write, cli):
    hub.server_close()
    hub.shutdown()
    Path("org/there-instruct").mkdir(parents=True)
    Path("org/there-instruct/config.json").write_text("{}")
    file = write({"answers": ASK}, m={"model_name_or_path": "org/there"})
    found = cli("plan", file)
    assert found.code == 4
    assert "did you mean 'org/there-instruct'? Else download it" in found.err
    assert "org/there is neither a directory nor in the Hub's cache" in found.err
    assert "cannot be reached" in found.err
    assert "hf download org/there" in found.err


@pytest.mark.parametrize("visible", [4, 8, 0, None])
def test_more_processes_than_gpus(visible, write, cli, machine):
    machine(gpus=visible, gpu_bytes=visible and 80 * GIB)
    file = write({"answers": ASK, "student": {**TRAIN, "launch": {"processes": 8}}}, m={})
    if visible != 4:
        assert cli("plan", file).code == 0  # enough; on the CPU; not known
        return
    said = refused(cli, file)
    where = "p.yaml:23: stages.student.launch.processes"
    assert f"{where}: 8, but 4 GPUs are visible; a process needs one each" in said


VLLM = {"kind": "vllm", "tensor_parallel_size": 2, "pipeline_parallel_size": 2}
SERVER = {"kind": "vllm_server", "tensor_parallel_size": 2, "data_parallel_size": 2}


@pytest.mark.parametrize(
    ("engine", "needs"),
    [
        (VLLM, 4),
        (SERVER, 4),
        ({"kind": "ray", "replicas": 2, "engine": VLLM}, 8),
        ({"kind": "ray", "replicas": [2, 9], "engine": {"kind": "transformers"}}, 2),
        ({"kind": "ray", "replicas": 9, "num_gpus": 0.5, "engine": {"kind": "transformers"}}, 4),
    ],
)
def test_more_gpus_than_an_engine_finds(engine, needs, write, cli, machine, monkeypatch):
    file = write({"answers": ASK}, m={"engine": engine})
    machine(gpus=needs, gpu_bytes=80 * GIB)
    assert cli("plan", file).code == 0
    machine(gpus=needs - 1, gpu_bytes=80 * GIB)
    said = refused(cli, file)
    assert f"the engine needs {needs} GPUs, but {needs - 1} GPU" in said
    copies = "data_parallel_size" if engine is SERVER else "replicas"
    assert f"lower tensor_parallel_size, pipeline_parallel_size or {copies}\n" in said
    if engine["kind"] == "ray":  # on a cluster, others have some
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
        assert cli("plan", file).code == 0


def test_a_gpu_that_a_server_does_not_find(write, cli, machine):
    file = write({"answers": ASK}, m={"engine": {"kind": "vllm_server", "gpus": [3]}})
    machine(gpus=4, gpu_bytes=80 * GIB)
    assert cli("plan", file).code == 0
    machine(gpus=3, gpu_bytes=80 * GIB)
    said = refused(cli, file)
    assert "models.m.engine.gpus: gpus names 3, but 3 GPUs are visible, counted from 0" in said


def test_a_device_that_is_not_there(write, cli, machine):
    file = write({"answers": ASK}, m={"engine": {"kind": "transformers", "device": "cuda"}})
    machine(gpus=0)
    assert "models.m.engine: device: cuda, but there is no CUDA device" in refused(cli, file)
    machine(gpus=None)
    assert cli("plan", file).code == 0


def test_memory_that_an_engine_does_not_fit_into(write, cli, machine):
    file = write({"answers": ASK}, m={})
    machine(gpus=1, gpu_bytes=N_BYTES, ram_bytes=0)
    assert cli("plan", file).code == 0
    machine(gpus=1, gpu_bytes=N_BYTES - 1, ram_bytes=64 * GIB)
    said = refused(cli, file)
    assert "models.m: it needs at least 1.6 MB in the GPU without activations (weights" in said
    machine(gpus=0, ram_bytes=N_BYTES - 1)
    assert "in memory without activations" in refused(cli, file)
    machine(gpus=None, ram_bytes=None)
    assert cli("plan", file).code == 0


def test_memory_of_vllm_is_shared_and_has_room_for_a_sequence(write, cli, machine):
    engine = {"kind": "vllm", "tensor_parallel_size": 2, "gpu_memory_utilization": 0.5}
    file = write({"answers": ASK}, m={"engine": engine})
    cache = 2 * 3 * 3 * 32 * 2 * 1024  # keys and values, 3 layers, 3 heads of 32, 2 bytes, 1024
    needs = N_BYTES // 2 + cache // 2
    machine(gpus=2, gpu_bytes=2 * needs)
    assert cli("plan", file).code == 0
    machine(gpus=2, gpu_bytes=2 * needs - 2)
    assert "for it (50%)" in refused(cli, file)


@pytest.mark.parametrize(
    ("settings", "copies"),
    [({}, 4), ({"launch": {"processes": 4, "strategy": "fsdp2"}}, 1), ({"peft": {}}, None)],
    ids=["full", "fsdp2", "adapter"],
)
def test_memory_that_a_training_does_not_fit_into(settings, copies, write, cli, machine):
    """Weights, gradients and two averages; an adapter has little more than weights."""
    file = write({"answers": ASK, "student": {**TRAIN, **settings}}, m={"dtype": "float32"})
    needs = N_BYTES * copies if copies else N_BYTES + 4 * 4 * 77_824
    machine(gpus=4, gpu_bytes=needs)
    stage = next(s for s in planned(cli, file) if s["stage"] == "student")
    assert stage["memory_bytes_per_device"] == pytest.approx(needs, abs=0 if copies else needs / 2)
    needs = stage["memory_bytes_per_device"]
    if copies != 1:  # by one byte less: what only trains does not fit
        machine(gpus=4, gpu_bytes=needs - 1)
        assert "stages.student: it needs at least" in refused(cli, file)
    machine(gpus=4, gpu_bytes=needs)
    assert cli("plan", file).code == 0


def planned(cli, *arguments):
    return json.loads(cli("plan", *arguments, "--json").out)["stages"]


def test_a_disk_that_does_not_hold_the_models(write, cli, machine):
    file = write({"answers": ASK, "one": TRAIN, "two": {**TRAIN, "learning_rate": 1e-3}}, m={})
    machine(free_bytes=2 * N_BYTES)
    assert cli("plan", file).code == 0
    machine(free_bytes=2 * N_BYTES - 1)
    found = cli("plan", file)
    assert found.code == 5
    assert "the 2 models of this run will take 3.1 MB on the disk of data" in found.err


def test_a_count_that_cannot_be_reached(write, cli):
    some = {"stage": "select", "rows": "rows", "n": 21, "strict": True}
    said = refused(cli, write({"some": some}))
    assert "p.yaml:10: stages.some.n: 21 rows are wanted, and 'rows' will have 20 at most" in said
    assert cli("plan", write({"some": {**some, "strict": False}})).code == 0
    parts = {"a": 15, "b": 6}
    split = {"stage": "split", "rows": "rows", "parts": parts, "part": "a"}
    assert "stages.part.parts: 21 rows are wanted" in refused(cli, write({"part": split}))
    # what is selected of a part that is too small
    chain = {"part": {**split, "parts": {"a": 15, "b": 5}}, "some": {**some, "rows": "part"}}
    assert "'part' will have 15 at most" in refused(cli, write(chain))


@pytest.mark.parametrize(("n", "is_warned_of"), [(16, False), (17, True), (20, True)])
def test_a_count_that_filters_make_unlikely(n, is_warned_of, write, cli):
    stages = {
        "kept": {"stage": "deduplicate", "rows": "rows", "column": "question"},
        "some": {"stage": "select", "rows": "kept", "n": n, "strict": True},
    }
    found = cli("plan", write(stages))
    assert found.code == 0
    assert ("if the stages before it drop more than" in found.out) == is_warned_of
    ran = cli("run", "p.yaml")
    assert ran.code == 0
    assert (f"drop more than {20 - n}, the run stops here" in ran.out) == is_warned_of
    assert "drop more than" not in cli("plan", "p.yaml", "--force", "some").out  # it is known now


def test_all_problems_of_a_file_at_once(write, cli, machine):
    machine(gpus=4, gpu_bytes=80 * GIB, free_bytes=0)
    said = refused(
        cli,
        write(
            {
                "answers": {**ASK, "model": "o"},
                "student": {**TRAIN, "launch": {"processes": 8}},
                "some": {"stage": "select", "rows": "rows", "n": 21, "strict": True},
            },
            m={},
            o={"model_name_or_path": "org/absent"},
        ),
    )
    assert said.startswith("error: 4 problems in p.yaml:\n")
    places = ("models.o.model_name_or_path", "launch.processes", "stages.student:", "stages.some.n")
    assert all(place in said for place in places)


def test_what_is_stored_needs_no_model(write, cli, machine):
    """An engine is opened for what it has not written before only."""
    file = write({"answers": ASK, "again": {**ASK, "n": 2}}, m={})
    machine(gpus=0)
    assert cli("run", file, "--until", "answers").code == 0
    machine(gpus=0, ram_bytes=1)
    assert cli("plan", file).code == 0
    other = "models.m.dtype=bfloat16"  # another model, as far as it is known
    assert cli("plan", file, "--set", other).code == 4


def test_an_input_that_is_known_to_be_empty(write, cli):
    stages = {
        "some": {"stage": "select", "rows": "rows", "n": 9, "drop_where_null": ["question"]},
        "student": {**TRAIN, "rows": "some", "completion_column": "question"},
    }
    Path("rows.jsonl").write_text('{"id": "a", "question": null}\n')
    file = write(stages, m={})
    required = ("--set", "stages.rows.required=[]")
    assert cli("run", file, "--until", "some", *required).code == 0
    found = cli("plan", file, *required)
    assert found.code == 3
    assert "stages.student.rows: its input 'some' has no rows" in found.err
    allowed = "stages.student.if_no_rows=keep_model"
    assert cli("plan", file, *required, "--set", allowed).code == 0


@pytest.mark.parametrize(
    ("loss", "teacher", "is_refused"),
    [
        ("reverse_kl", "tiny-teacher", True),
        ("forward_kl", "tiny-student", False),
        ("alm", "tiny-teacher", False),
    ],
)
def test_a_loss_over_tokens_that_the_two_do_not_share(loss, teacher, is_refused, write, cli):
    train = {
        "stage": "train_distill",
        "rows": "answers",
        "model": "m",
        "teacher": "t",
        "online": True,
        "prompt_template": "ask.jinja",
        "losses": {loss: 1.0},
    }
    file = write(
        {"answers": ASK, "trained": train}, m={}, t={"model_name_or_path": _beside(teacher)}
    )
    if not is_refused:
        assert cli("plan", file).code == 0
        return
    message = " ".join(refused(cli, file).split())
    assert (
        f"stages.trained.losses.{loss}: losses.{loss} compares distributions over tokens" in message
    )
    assert "tokenizers of 't' and 'm' differ: the teacher's has" in message


def test_what_else_compares_tokens_that_two_do_not_share(write, cli):
    """A mixture of teachers, and what is watched on the way; each at its own place."""
    score = {
        "stage": "score_likelihood",
        "rows": "answers",
        "teachers": {"one": "m", "other": "t"},
        "teacher_weights": {"one": 1, "other": 1},
        "prompt_template": "ask.jinja",
    }
    train = {
        "stage": "train_distill",
        "rows": "answers",
        "model": "m",
        "teacher": "t",
        "online": True,
        "prompt_template": "ask.jinja",
        "losses": {"alm": 1.0},
        "watch_hacking": {"rows": "held", "golden": "m"},
    }
    stages = {"answers": ASK, "held": ASK, "scored": score, "trained": train}
    other = {"model_name_or_path": _beside("tiny-teacher")}
    message = " ".join(refused(cli, write(stages, m={}, t=other)).split())
    assert "stages.scored.teacher_weights: teacher_weights: the tokenizers of 'one' and" in message
    assert "stages.trained.watch_hacking.distance: watch_hacking.distance: forward_kl" in message
    train["watch_hacking"]["distance"] = "alm"
    del train["watch_hacking"]["golden"]
    twin = {"model_name_or_path": _beside("tiny-student")}
    assert cli("plan", write(stages, m={}, t=twin)).code == 0


def _beside(name: str) -> str:
    return str(Path(TINY).with_name(name))
