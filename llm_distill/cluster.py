"""The connection of a process to a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket

import ray

from llm_distill.errors import ModelError, first_line

SECONDS_TO_ANSWER = 10.0
PASSED_ON = ("HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "PYTHONPATH")
"""Environment variables that a node is given. No tokens: Ray shows them to whoever looks."""


def connect(address: str | None, what: str, otherwise: str) -> None:
    """Connect to a cluster, or start one on this machine where none is named.

    address: such as auto or 10.0.0.1:6379; None: that of RAY_ADDRESS, if it is set.
    what: the setting that wants a cluster. otherwise: what to do without one; both for messages.

    Raises:
        ModelError: no cluster answers.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = address or os.environ.get("RAY_ADDRESS")
    advice = f"start one with `ray start --head`, or {otherwise}"
    refused = _why_silent(where)
    if refused is not None:
        raise ModelError(f"{what}: no cluster answers at {where}: {refused}; {advice}")
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        ray.init(
            address=address,
            include_dashboard=None if where else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": variables},
        )
    except Exception as error:  # of several kinds, some of them plain
        if where not in (None, "auto") and "RAY_AUTH_MODE" not in os.environ:
            # Something answers there. Clusters of Ray 2.60 want a token unless told otherwise.
            advice = (
                "if it asks for a token, set RAY_AUTH_MODE=token (`ray get-auth-token` makes one, "
                "for all machines); on the head itself, the address auto finds both"
            )
        raise ModelError(
            f"{what}: no cluster at {where or 'this machine'}: {first_line(error)}; {advice}"
        ) from error


def resources() -> dict[str, float]:
    """Of all nodes, such as {"CPU": 16.0, "GPU": 2.0}."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _why_silent(address: str | None) -> str | None:
    """Why nothing answers at host:port; Ray would go on asking for minutes, and then exit."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return None
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
