"""A training over the nodes of a cluster, which are all on this machine, is that of one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from llm_distill.errors import ModelError
from llm_distill.stages.train_sft import TrainSft
from tests.training.test_ranks import SETTINGS, ranks_everywhere, some_rows, train, wait_for

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SFT = {**SETTINGS, "stage": "train_sft"}


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_two_machines_train_what_one_process_does(
    processes, cluster, rows, text_model, weights, tmp_path
):
    one = train(TrainSft(**SFT), tmp_path / "one", some_rows(rows), text_model)
    shared = TrainSft(**SFT, launch={"machines": 2, "processes": processes, "strategy": "fsdp2"})
    two = train(shared, tmp_path / "two", some_rows(rows), text_model)
    losses = [
        [point["loss"] for point in done.manifest["metrics"]["history"]] for done in (one, two)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    expected, found = weights(one.directory), weights(two.directory)
    assert expected.keys() == found.keys()
    assert max((expected[name] - found[name]).abs().max() for name in expected) < 1e-4
    assert sorted(p.name for p in (tmp_path / "two").glob("*.log")) == [
        f"stage.rank{n}.log" for n in range(1, processes)
    ]


@pytest.mark.exhaustive
def test_a_rank_that_is_killed_on_a_machine_ends_the_stage_and_all_others(
    cluster, rows, text_model, weights, tmp_path
):
    settings = {**SFT, "num_train_epochs": 20}
    stage = TrainSft(**settings, launch={"machines": 2})
    whole = train(TrainSft(**settings), tmp_path / "whole", some_rows(rows), text_model)
    checkpoints = tmp_path / "cut" / "work" / "checkpoints"
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, stage, tmp_path / "cut", some_rows(rows), text_model)
        wait_for(lambda: list(checkpoints.glob("checkpoint-*/digests.json")), during=training)
        ranks_everywhere()[1].kill()
        with pytest.raises(ModelError, match=r"rank 1 of 2 was killed \(SIGKILL\)"):
            training.result()
    wait_for(lambda: not ranks_everywhere(), 10)
    resumed = train(stage, tmp_path / "cut", some_rows(rows), text_model)
    assert resumed.manifest["metrics"]["resumed_from_step"] > 0
    expected, found = weights(whole.directory), weights(resumed.directory)
    assert max((expected[name] - found[name]).abs().max() for name in expected) < 1e-4


@pytest.mark.exhaustive
def test_a_lost_machine_is_told(cluster, rows, text_model, tmp_path):
    stage = TrainSft(**{**SFT, "num_train_epochs": 500}, launch={"machines": 2})
    checkpoints = tmp_path / "cut" / "work" / "checkpoints"
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, stage, tmp_path / "cut", some_rows(rows), text_model)
        wait_for(lambda: list(checkpoints.glob("checkpoint-*/digests.json")), during=training)
        cluster.remove_node(cluster.nodes[1])
        with pytest.raises(ModelError, match=r"a machine of the cluster was lost|rank . of 2"):
            training.result()
    wait_for(lambda: not ranks_everywhere(), 10)


def test_what_is_not_shared_is_told(tmp_path):
    from llm_distill.runtime.machines import enter

    with pytest.raises(ModelError, match=r"10.0.0.2 does not see .*work, .*machines share, at"):
        enter("10.0.0.2", tmp_path, tmp_path / "work" / "is_shared")
    (tmp_path / "is_shared").touch()
    with pytest.raises(ModelError, match=r"10.0.0.2 does not have the folder .*elsewhere"):
        enter("10.0.0.2", tmp_path / "elsewhere", tmp_path / "is_shared")


def test_without_a_cluster_it_says_how_to_have_one(rows, text_model, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    stage = TrainSft(**SFT, launch={"machines": 2})
    with pytest.raises(ModelError, match=r"RAY_ADDRESS does not name one; start it with `ray"):
        train(stage, tmp_path / "none", some_rows(rows), text_model)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ModelError, match=r"no cluster answers at 127.0.0.1:1"):
        train(stage, tmp_path / "silent", some_rows(rows), text_model)
