"""Asks a server which models it has, before anything is asked of them: GET /models.

It costs nothing, and needs none of the packages that requests need.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.engines.settings import Found
from llm_distill.errors import first_line, nearest

SECONDS = 5
MOST_BYTES = 10_000_000
ANY_NAME = ("llamacpp",)
"""Who says so in `owned_by` answers to any name of a model."""


@dataclass(frozen=True)
class _Listed:
    """What an address said. names: None where it gave no list. why: then, for people.

    is_down: nobody answers there. is_refused: it wants another key.
    lacks_v1: the list is at the address with /v1 after it.
    """

    address: str
    names: tuple[str, ...] | None = None
    takes_any: bool = False
    why: str = ""
    is_down: bool = False
    is_refused: bool = False
    lacks_v1: bool = False


def look(settings: OpenAISettings, model: str, key: str | None) -> Iterator[Found]:
    """What would stop every request to `model`, and what is only worth knowing.

    key: what the server is sent as a key.
    """
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda a: _ask(a, settings, key), settings.addresses()))
    all_down = all(each.is_down for each in said)
    for each in said:
        if each.is_down and all_down:
            todo = f"it should serve '{model}': start it, or correct engine.base_url"
            yield Found(("engine", "base_url"), f"{each.why}; {todo}", is_certain=True)
        elif each.is_refused:
            variable = settings.api_key_env
            todo = f"it refuses the key in the environment variable {variable}"
            if key is None:
                todo = f"set the environment variable {variable} to a key for it"
            yield Found(("engine", "api_key_env"), f"{each.why}; {todo}", is_certain=True)
        elif each.lacks_v1:
            yield Found(("engine", "base_url"), each.why, is_certain=True)
        elif each.names is None:
            yield Found(
                ("engine", "base_url"), f"{each.why}; whether it has '{model}' is not known"
            )
        elif not _has(model, each.names):
            place = ("engine", "model") if settings.model is not None else ("model_name_or_path",)
            # Azure lists what could be deployed, and asks for what has been, by another name.
            is_certain = not (each.takes_any or settings.api_version)
            message = f"{each.address} has no model '{model}'; {nearest(model, each.names)}"
            yield Found(place, message, is_certain=is_certain)


def _has(model: str, names: tuple[str, ...]) -> bool:
    """Also where a variant is asked for, such as `name:free`."""
    return model in names or model.partition(":")[0] in names


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """The key is for this address alone."""


def headers_of(settings: OpenAISettings, key: str | None) -> dict[str, str]:
    """Those of each request; key: what the server is sent as one."""
    headers = {"Accept": "application/json", **settings.extra_headers}
    if key is not None:
        is_bearer = settings.api_key_header == "Authorization"
        headers[settings.api_key_header] = f"Bearer {key}" if is_bearer else key
    return headers


def _ask(address: str, settings: OpenAISettings, key: str | None) -> _Listed:
    version = settings.api_version
    url = f"{address}/models" + (f"?api-version={version}" if version else "")
    headers = headers_of(settings, key)
    try:
        with build_opener(_NoRedirects).open(Request(url, headers=headers), timeout=SECONDS) as got:
            content = got.read(MOST_BYTES)
    except HTTPError as error:
        if error.code == 404 and not address.endswith("/v1"):
            error.close()
            at_v1 = f"{address}/v1"
            if _ask(at_v1, settings, key).names is not None:
                why = f"{address} lists no models, and {at_v1} does; base_url should end in /v1"
                return _Listed(address, why=why, lacks_v1=True)
            return _Listed(address, why=_not_found(address, error.code))
        return _refused(address, error)
    except TimeoutError:
        return _Listed(address, why=f"{address} has not listed its models in {SECONDS} s")
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            return _Listed(address, why=f"{address} has not listed its models in {SECONDS} s")
        return _Listed(address, why=f"{address} cannot be reached ({error.reason})", is_down=True)
    except (HTTPException, OSError, ValueError) as error:
        return _Listed(address, why=f"{address}: {first_line(error)}")
    try:
        entries = json.loads(content)["data"]
        names = tuple(str(entry["id"]) for entry in entries)
        takes_any = any(entry.get("owned_by") in ANY_NAME for entry in entries)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _Listed(address, why=f"{address} gives no list of its models")
    return _Listed(address, names, takes_any)


def _refused(address: str, error: HTTPError) -> _Listed:
    with error:
        try:
            said = error.read(2000).decode("utf-8", "replace").lower()
        except OSError:
            said = ""
    why = f"{address} answers HTTP {error.code} to a question for its models"
    if error.code == 401:
        # A key may be good for requests and not for lists.
        return _Listed(
            address, why=why, is_refused="scope" not in said and "permission" not in said
        )
    if error.code in (404, 405):
        why = _not_found(address, error.code)
    return _Listed(address, why=why)


def _not_found(address: str, code: int) -> str:
    return (
        f"{address} answers HTTP {code} to a question for its models; is engine.base_url right? "
        "It usually ends in /v1"
    )
