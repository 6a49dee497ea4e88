"""A Hub on loopback: repositories, large files and commits for the real client.

It counts uploads, and fails as a test asks. Without Xet: the client is set to use LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_loopback"
LARGE = (".safetensors", ".parquet")
LICENSES = ("apache-2.0", "mit", "llama3", "cc-by-4.0")


@dataclass(frozen=True)
class Fault:
    """What happens instead of the next call whose method and path match.

    Attributes:
        status: The error's status; None to cut the connection.
        cut_after: Bytes of the body to read before the connection is cut.
    """

    method: str
    path: str
    status: int | None = None
    error: str = "no"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int = 0


@dataclass
class Repo:
    """A repository: the files of each commit, the newest last."""

    private: bool
    commits: list[dict[str, bytes]]
    messages: list[str]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    def oid(self, number: int = -1) -> str:
        names = sorted((n, _sha256(f)) for n, f in self.commits[number].items())
        return hashlib.sha1(json.dumps([len(self.commits), names]).encode()).hexdigest()


class LoopbackHub:
    """The server.

    Attributes:
        repos: By `models/me/x` or `datasets/me/x`; a branch by `models/me/x@branch`.
        stored: Large files by sha256.
        calls: (method, path) of every call.
        uploads: sha256 of every large file that was sent completely.
        waits: Seconds that the client would have slept between attempts.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self.uploads: list[str] = []
        self.faults: deque[Fault] = deque()
        self.waits: list[float] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.path in path:
                self.faults.remove(fault)
                return fault
        return None

    def called(self, method: str, part: str) -> int:
        return sum(m == method and part in path for m, path in self.calls)


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None: ...

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        self.hub.calls.append((self.command, path))
        fault = self.hub.fault_for(self.command, path)
        if fault is not None and fault.status is None:
            self.rfile.read(fault.cut_after)
            return self._cut()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        if fault is not None:
            assert fault.status is not None
            headers = {"X-Error-Message": fault.error, **fault.headers}
            return self._json({"error": fault.error}, fault.status, headers)
        if path.startswith("/lfs/") and self.command == "PUT":  # a signed address: no token
            digest = path.removeprefix("/lfs/")
            assert _sha256(body) == digest
            self.hub.stored[digest] = body
            self.hub.uploads.append(digest)
            return self._json({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            error = "Invalid credentials in Authorization header"
            return self._json({"error": error}, 401, {"X-Error-Message": error})
        self._answer(path, query, body)

    def _answer(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        if path == "/lfs/verify":
            return self._json({})
        batch = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path)
        if batch:
            return self._batch(json.loads(body))
        resolve = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if resolve:
            kind = "datasets" if resolve[1] else "models"
            return self._resolve(f"{kind}/{resolve[2]}", resolve[3], resolve[4])
        api = re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(?:/([a-z-]+)(?:/(.*))?)?", path)
        if api is None:
            return self._json({"error": f"no {path}"}, 404)
        repo = self.hub.repos.get(api[1])
        if repo is None:
            return self._json({"error": "none"}, 404, {"X-Error-Code": "RepoNotFound"})
        name, what, rest = api[1], api[2] or "revision", (api[3] or "main")
        branch = f"{name}@{rest.partition('/')[0]}"
        if what == "branch":
            fresh = Repo(repo.private, [dict(repo.files)], list(repo.messages))
            self.hub.repos.setdefault(branch, fresh)
            return self._json({})
        repo = self.hub.repos.get(branch, repo)
        if what == "revision":
            return self._info(name, repo, rest)
        if what == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            return self._tree(repo, rest, recursive=recursive)
        if what == "paths-info":
            return self._paths(repo, parse_qs(body.decode()).get("paths", []))
        if what == "preupload":
            return self._preupload(repo, json.loads(body))
        if what == "commit":
            return self._commit(name, repo, body)
        self._json({"error": f"no {path}"}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        kind = f"{asked.get('type', 'model')}s"
        repo_id = f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/{'datasets/' if kind == 'datasets' else ''}{repo_id}"
        if f"{kind}/{repo_id}" in self.hub.repos:
            error = "You already created this repo"
            return self._json({"error": error, "url": url}, 409, {"X-Error-Message": error})
        private = asked.get("visibility") == "private"
        start = {".gitattributes": b"*.safetensors filter=lfs\n"}
        self.hub.repos[f"{kind}/{repo_id}"] = Repo(private, [start], ["initial commit"])
        self._json({"url": url})

    def _validate(self, content: str) -> None:
        declared = re.search(r"^license: (.+)$", content, re.MULTILINE)
        if declared and declared[1] not in LICENSES:
            errors = [{"message": '"license" must be one of [apache-2.0, …]'}]
            return self._json({"errors": errors, "warnings": []}, 400)
        self._json({"errors": [], "warnings": []})

    def _preupload(self, repo: Repo, asked: dict[str, Any]) -> None:
        files = []
        for file in asked["files"]:
            name = file["path"]
            mode = "lfs" if name.endswith(LARGE) else "regular"
            info = {"path": name, "uploadMode": mode, "shouldIgnore": False}
            if name in repo.files:
                info["oid"] = _etag(name, repo.files[name])
            files.append(info)
        self._json({"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for wanted in asked["objects"]:
            entry: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.stored:
                upload = {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}
                entry["actions"] = {
                    "upload": upload,
                    "verify": {"href": f"{self.hub.url}/lfs/verify"},
                }
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, repo: Repo, body: bytes) -> None:
        files = dict(repo.files)
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                repo.messages.append(value["summary"])
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        repo.commits.append(files)
        url = f"{self.hub.url}/{name.removeprefix('models/')}/commit/{repo.oid()}"
        self._json({"success": True, "commitOid": repo.oid(), "commitUrl": url})

    def _info(self, name: str, repo: Repo, revision: str) -> None:
        if revision not in ("main", repo.oid()) and f"{name}@{revision}" not in self.hub.repos:
            return self._json({"error": "none"}, 404, {"X-Error-Code": "RevisionNotFound"})
        repo_id = name.partition("/")[2]
        siblings = [{"rfilename": file} for file in sorted(repo.files)]
        info = {"id": repo_id, "sha": repo.oid(), "private": repo.private, "siblings": siblings}
        self._json({**info, "downloads": 0, "likes": 0, "tags": [], "gated": False})

    def _tree(self, repo: Repo, place: str, *, recursive: bool) -> None:
        """Files and folders below a folder, or directly in it."""
        folder = place.partition("/")[2]
        start = f"{folder}/" if folder else ""
        below = [name for name in repo.files if name.startswith(start)]
        if folder and not below:
            return self._json({"error": "none"}, 404, {"X-Error-Code": "EntryNotFound"})
        parents = {str(above) for name in below for above in PurePosixPath(name).parents}
        names = [n for n in {*below, *parents} if n.startswith(start) and n not in (".", folder)]
        deep = [n for n in names if recursive or "/" not in n.removeprefix(start)]
        self._paths(repo, sorted(deep))

    def _paths(self, repo: Repo, names: list[str]) -> None:
        entries: list[dict[str, Any]] = []
        for name in names:
            if name in repo.files:
                size = len(repo.files[name])
                oid = _etag(name, repo.files[name])
                entry = {"type": "file", "path": name, "size": size, "oid": oid}
                if name.endswith(LARGE):
                    entry["lfs"] = {"oid": oid, "size": size, "pointerSize": 1}
                entries.append(entry)
            elif any(file.startswith(f"{name}/") for file in repo.files):
                entries.append({"type": "directory", "path": name, "size": 0, "oid": "0" * 40})
        self._json(entries)

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            return self._json({}, 404, {"X-Error-Code": "RepoNotFound"})
        headers = {"X-Repo-Commit": repo.oid()}
        if revision not in ("main", repo.oid()) or file not in repo.files:
            missing = "EntryNotFound" if revision in ("main", repo.oid()) else "RevisionNotFound"
            return self._json({}, 404, {**headers, "X-Error-Code": missing})
        content = repo.files[file]
        self._send(content, 200, {**headers, "ETag": f'"{_etag(file, content)}"'})

    def _json(
        self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        content = json.dumps(value).encode()
        self._send(content, status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _cut(self) -> None:
        """Reset the connection, as if the network were gone."""
        linger = struct.pack("ii", 1, 0)  # a reset, not an orderly shutdown
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _etag(name: str, content: bytes) -> str:
    """As git names a small file, and LFS a large one."""
    if name.endswith(LARGE):
        return _sha256(content)
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
