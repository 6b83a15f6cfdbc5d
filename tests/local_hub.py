"""A hub of models on localhost, with the part of the Hugging Face hub's interface that downloads use."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

MODEL = re.compile(r"/api/models/(?P<model>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?")
FILE = re.compile(r"/(?P<model>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
STORED = re.compile(r"/stored/(?P<hash>[0-9a-f]{64})")


class LocalHub:
    """Repositories by name; `requests` has the method and path of every request, in order.

    Attributes:
        status: if set, every answer has this status: the hub is out of order.
        token: gated models are served to requests with this token.
    """

    def __init__(self):
        self.refs: dict[str, dict[str, str]] = {}  # model -> branch -> commit
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}  # model -> commit -> name -> content
        self.licences: dict[str, str] = {}
        self.gated: set[str] = set()
        self.requests: list[str] = []
        self.status: int | None = None
        self.token = "hf_right"
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.storage = f"http://localhost:{self.server.server_port}"  # another host, as large files are
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def push(self, model: str, files: dict[str, bytes] | Path, branch: str = "main") -> str:
        """Add a commit with these files, or those of a folder, to a branch; returns the commit."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        content = json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
        commit = hashlib.sha1((model + branch + content).encode()).hexdigest()
        self.commits.setdefault(model, {})[commit] = files
        self.refs.setdefault(model, {})[branch] = commit
        return commit

    def files(self) -> list[str]:
        """The names of the files that were asked for, each once."""
        return sorted({request.rpartition("/")[2] for request in self.requests if "/resolve/" in request})


class Handler(BaseHTTPRequestHandler):
    hub: LocalHub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.status:
            return self.send(self.hub.status, b"out of order")
        if found := STORED.fullmatch(path):
            return self.send(200, self.stored(found["hash"]))
        if not (found := MODEL.fullmatch(path) or FILE.fullmatch(path)):
            return self.send(404, b"no such page")
        model, revision = found["model"], unquote(found["revision"] or "main")
        if model not in self.hub.commits:
            return self.fail(401, "RepoNotFound")
        commit = self.hub.refs[model].get(revision, revision)
        if commit not in self.hub.commits[model]:
            return self.fail(404, "RevisionNotFound")
        if found.re is MODEL:
            return self.describe(model, commit)
        if model in self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.fail(401, "GatedRepo")
        return self.file(self.hub.commits[model][commit].get(unquote(found["file"])), commit)

    def describe(self, model: str, commit: str) -> None:
        files = self.hub.commits[model][commit].items()
        siblings = [{"rfilename": name, "size": len(data), "blobId": "0"} for name, data in files]
        card = {"license": self.hub.licences[model]} if model in self.hub.licences else {}
        about = {"id": model, "modelId": model, "sha": commit, "siblings": siblings, "cardData": card, "tags": []}
        self.send(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def file(self, data: bytes | None, commit: str) -> None:
        headers = {"X-Repo-Commit": commit}
        if data is None:
            return self.fail(404, "EntryNotFound", headers)
        digest = hashlib.sha256(data).hexdigest()
        if len(data) < 4096:  # small files are sent; of large ones, the hub says where they are
            return self.send(200, data, {**headers, "ETag": f'"{digest[:40]}"'})
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        return self.send(302, b"", {**headers, "Location": f"{self.hub.storage}/stored/{digest}"})

    def stored(self, digest: str) -> bytes:
        every = (data for commits in self.hub.commits.values() for files in commits.values() for data in files.values())
        return next(data for data in every if hashlib.sha256(data).hexdigest() == digest)

    def fail(self, status: int, code: str | None, headers: dict[str, str] | None = None) -> None:
        self.send(status, b"{}", {**(headers or {}), **({"X-Error-Code": code} if code else {})})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
