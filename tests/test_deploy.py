"""The files for images and clusters name what there is."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

from llm_distill.cli.main import app
from llm_distill.pipeline.load import load_pipeline

DEPLOY = Path(__file__).parents[1] / "deploy"
ROOT = DEPLOY.parent


def check_command(words: list[str]) -> None:
    """`llm-distill run FILE …` with options that there are and a file that is valid."""
    assert words[:2] == ["llm-distill", "run"]
    known = {name for option in get_command(app).commands["run"].params for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= known
    assert load_pipeline(words[2]).stages


def test_the_image_is_made_of_what_there_is() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"EXTRAS=([\w,]+)", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    copied = " ".join(re.findall(r"^COPY (.+)$", text, re.MULTILINE)).split()
    for place in included["targets"]["wheel"]["force-include"]:
        assert place.split("/")[0] in copied
    assert re.search(r"^USER (?!root)\w+$", text, re.MULTILINE)
    shown = re.search(r"llm-distill (run \S+)$", text, re.MULTILINE)
    assert shown is not None
    check_command(["llm-distill", *shown.group(1).split()])


def test_the_job_of_kubernetes_has_one_folder_on_all_nodes() -> None:
    job: dict[str, Any] = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["env", "RAY_ADDRESS=auto"]
    check_command(words[2:])
    cluster = job["spec"]["rayClusterSpec"]
    workspace = Path(words[words.index("--workspace") + 1])
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert workspace.is_relative_to("/distil")
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert "persistentVolumeClaim" in volumes[mounts["/distil"]]
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned.group(1)
