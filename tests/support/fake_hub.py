"""A small Hub on loopback: repositories, branches, uploads by commit and by LFS, downloads."""

import base64
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER = "tester"
Files = dict[str, bytes]


@dataclass
class Hub:
    """What the server holds."""

    address: str = ""
    token: str = "hf_right"
    repos: dict[str, dict[str, Files]] = field(default_factory=dict)
    """Files by repository and branch."""
    private: dict[str, bool] = field(default_factory=dict)
    objects: Files = field(default_factory=dict)
    """LFS objects by sha256."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Authorization header of every request."""
    modes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many files were uploaded by commit ("regular") and by LFS ("lfs")."""

    def commit_of(self, repo: str, branch: str) -> str:
        """Return the name of the state of a branch."""
        found = hashlib.sha1(usedforsecurity=False)
        for name, data in sorted(self.repos[repo][branch].items()):
            found.update(name.encode() + data)
        return found.hexdigest()

    def branch_of(self, repo: str, revision: str) -> str | None:
        """Return the branch that a revision names, by its name or its commit."""
        branches = self.repos.get(repo, {})
        if revision in branches:
            return revision
        return next((b for b in branches if self.commit_of(repo, b) == revision), None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_POST(self) -> None:
        path, body = self._begin()
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._json({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        parts = path.removeprefix("/api/models/").split("/")
        repo, verb, revision = "/".join(parts[:2]), parts[2], unquote("/".join(parts[3:]))
        if verb == "branch":
            self.hub.repos[repo].setdefault(revision, dict(self.hub.repos[repo]["main"]))
            return self._json({})
        if verb == "preupload":
            return self._json({"files": [_mode(one["path"]) for one in json.loads(body)["files"]]})
        return self._commit(repo, revision, body)

    def do_PUT(self) -> None:
        path, body = self._begin()
        self.hub.objects[path.removeprefix("/lfs/")] = body
        self._json({})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _ = self._begin()
        if path == "/api/whoami-v2":
            return self._json({"name": OWNER, "type": "user"})
        if path.startswith("/api/models/"):
            return self._describe(path.removeprefix("/api/models/").split("/"))
        parts = path.lstrip("/").split("/")
        if len(parts) < 5 or parts[2] != "resolve":
            return self._missing("EntryNotFound")
        owner, name, _, revision, *rest = parts
        return self._file(f"{owner}/{name}", unquote(revision), "/".join(rest))

    def _begin(self) -> tuple[str, bytes]:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
        return path, self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked.get('organization') or OWNER}/{asked['name']}"
        status = 409 if repo in self.hub.repos else 200
        self.hub.repos.setdefault(repo, {"main": {}})
        self.hub.private[repo] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self._json({"url": f"{self.hub.address}/{repo}", "name": repo}, status)

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {
                **one,
                "actions": {"upload": {"href": f"{self.hub.address}/lfs/{one['oid']}"}},
            }
            for one in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repo: str, branch: str, body: bytes) -> None:
        files = self.hub.repos[repo][branch]
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                self.hub.modes["regular"] += 1
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
                self.hub.modes["lfs"] += 1
        oid = self.hub.commit_of(repo, branch)
        url = f"{self.hub.address}/{repo}/commit/{oid}"
        self._json({"commitUrl": url, "commitOid": oid, "hookOutput": "", "success": True})

    def _describe(self, parts: list[str]) -> None:
        repo = "/".join(parts[:2])
        revision = unquote("".join(parts[3:4])) or "main"
        branch = self.hub.branch_of(repo, revision)
        if branch is None:
            return self._missing("RepoNotFound")
        files = self.hub.repos[repo][branch]
        if len(parts) > 2 and parts[2] == "tree":
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": _sha(data)}
                for name, data in files.items()
            ]
            if parts[4:]:
                return self._missing("EntryNotFound")
            return self._json(listed)
        siblings = [{"rfilename": name} for name in files]
        sha = self.hub.commit_of(repo, branch)
        return self._json({"id": repo, "modelId": repo, "sha": sha, "siblings": siblings})

    def _file(self, repo: str, revision: str, name: str) -> None:
        branch = self.hub.branch_of(repo, revision)
        if branch is None:
            return self._missing("RevisionNotFound")
        data = self.hub.repos[repo][branch].get(name)
        if data is None:
            return self._missing("EntryNotFound", self.hub.commit_of(repo, branch))
        extra = {"X-Repo-Commit": self.hub.commit_of(repo, branch), "ETag": f'"{_sha(data)}"'}
        return self._send(data, 200, "application/octet-stream", extra)

    def _missing(self, code: str, commit: str = "") -> None:
        self._send(b"{}", 404, "application/json", {"X-Error-Code": code, "X-Repo-Commit": commit})

    def _json(self, content: object, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), status, "application/json", {})

    def _send(self, data: bytes, status: int, kind: str, extra: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(data)), **extra}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _mode(path: str) -> dict[str, Any]:
    large = path.endswith(".safetensors")
    return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}


@contextmanager
def fake_hub() -> Iterator[Hub]:
    """Run a Hub for the length of a block."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
