"""A hub of models on this machine: as much of the protocol as creating, uploading and downloading needs."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """A model repository with its commits."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    """Of the last commit."""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self) -> str:
        """Keep the files as they are now; returns the commit."""
        sha = hashlib.sha1(b"".join(name.encode() + self.files[name] for name in sorted(self.files))).hexdigest()
        self.commits[sha] = dict(self.files)
        return sha


@dataclass
class FakeHub:
    """What a test sees of it."""

    address: str
    repositories: dict[str, Repository] = field(default_factory=dict)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve a hub without any repository."""
    hub = FakeHub("")

    class Handler(_Handler):
        repositories = hub.repositories

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repositories: dict[str, Repository]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if path == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'lab'}/{asked['name']}"
            if name in self.repositories:
                return self._json({"url": f"/{name}", "error": "it exists"}, status=409)
            self.repositories[name] = Repository(
                private=asked.get("visibility") == "private" or bool(asked.get("private"))
            )
            self.repositories[name].commit()
            return self._json({"url": f"http://{self.headers['Host']}/{name}", "id": name})
        if path == "api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        name, action = self._model(path)
        repository = self.repositories.get(name)
        if repository is None:
            return self._missing()
        if action.startswith("preupload"):
            paths = [file["path"] for file in json.loads(body)["files"]]
            return self._json({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                repository.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            if entry["key"] == "deletedFile":
                del repository.files[entry["value"]["path"]]
        sha = repository.commit()
        address = f"http://{self.headers['Host']}/{name}/commit/{sha}"
        return self._json({"success": True, "commitOid": sha, "commitUrl": address})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._path()
        if "/resolve/" in path:
            name, _, rest = path.partition("/resolve/")
            revision, _, file = rest.partition("/")
            repository = self.repositories.get(name)
            files = repository and self._files(repository, revision)
            if not files or file not in files:
                return self._missing("EntryNotFound" if files else "RepoNotFound")
            return self._send(
                files[file], {"ETag": f'"{_oid(files[file])}"', "X-Repo-Commit": self._sha(name, revision)}
            )
        name, action = self._model(path)
        repository = self.repositories.get(name)
        if repository is None:
            return self._missing()
        what, _, revision = action.partition("/")
        files = self._files(repository, revision or "main")
        if files is None:
            return self._missing("RevisionNotFound")
        if what == "tree":
            entries = [{"type": "file", "path": p, "size": len(c), "oid": _oid(c)} for p, c in sorted(files.items())]
            return self._json(entries)
        siblings = [{"rfilename": file} for file in sorted(files)]
        sha = self._sha(name, revision or "main")
        return self._json({"id": name, "private": repository.private, "sha": sha, "siblings": siblings, "tags": []})

    def _files(self, repository: Repository, revision: str) -> dict[str, bytes] | None:
        return repository.files if revision == "main" else repository.commits.get(revision)

    def _sha(self, name: str, revision: str) -> str:
        return self.repositories[name].commit() if revision == "main" else revision

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def _model(self, path: str) -> tuple[str, str]:
        """OWNER/NAME and what follows it in api/models/OWNER/NAME/…"""
        owner, name, *rest = path.removeprefix("api/models/").split("/")
        return f"{owner}/{name}", "/".join(rest)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _missing(self, code: str = "RepoNotFound") -> None:
        self._json({"error": "not found"}, status=404, headers={"X-Error-Code": code})

    def _json(self, content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}, status=status)

    def _send(self, content: bytes, headers: dict[str, str], *, status: int = 200) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
