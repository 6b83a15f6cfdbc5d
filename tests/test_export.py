"""`headstart export`: what goes with a run, and how it is pushed to a hub, here one of the test's own."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headstart.cli import main
from headstart.encoder.checkpoint_files import CheckpointError, file_hash
from headstart.errors import HeadstartError
from headstart.export import NEEDED, export

LARGE = ".safetensors"  # files that the hub takes by LFS


@pytest.fixture
def run(tmp_path) -> Path:
    """A folder with the files of a run."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in NEEDED:
        (folder / name).write_text(json.dumps({"model_type": "wav2vec2", "file": name}))
    facts = {"version": 1, "settings": {}, "seed": 1, "data": {}}
    recipe = {"stage": "finetune", **facts, "weights": file_hash(folder / "model.safetensors")}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "README.md").write_text("---\nlicense: unknown\n---\n# A run\n")
    (folder / "notes.txt").write_text("not of the run")
    return folder


def test_what_is_of_a_run_goes_with_it(run, tmp_path):
    remarks = export(run, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*NEEDED, "recipe.json", "README.md"}
    assert remarks == ["no language model is with it, because the run has none"]
    assert export(run, tmp_path / "out") == []  # again: the same run is there already
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_damaged_or_unfinished_run_is_refused(run, tmp_path):
    (run / "model.safetensors").write_text("damaged")
    with pytest.raises(CheckpointError, match="damaged or was replaced"):
        export(run, tmp_path / "out")
    (run / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match="no tokenizer_config.json; the run has not been trained to its end"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(HeadstartError, match="out: not empty"):
        export(run, tmp_path / "out")


# ---------------------------------------------------------------------------------------------- the hub


class Hub(ThreadingHTTPServer):
    """As much of a hub as `huggingface_hub` needs to make a repository and to commit files to it.

    Attributes:
        files: path -> content of what was committed, by any repository's name.
        made: what was asked for when repositories were made.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, dict[str, bytes]] = {}
        self.made: list[dict] = []
        self.objects: dict[str, bytes] = {}
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_) -> None:
        pass

    def answer(self, value: object, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_PUT(self) -> None:
        self.server.objects[self.path.rsplit("/", 1)[1]] = self.body()
        self.answer({})

    def do_GET(self) -> None:
        self.answer({"error": "Repository not found"}, 404)

    def do_POST(self) -> None:
        import base64

        body, hub = self.body(), self.server
        if self.headers.get("Authorization") != "Bearer right":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            hub.made.append(asked)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name.startswith("other/"):
                self.answer({"error": "You don't have the rights to create a model under this namespace"}, 403)
                return
            hub.files.setdefault(name, {})
            self.answer({"url": f"{hub.address}/{name}", "name": name, "id": name})
        elif self.path.startswith("/api/models/") and "/preupload/" in self.path:
            files = json.loads(body)["files"]
            kind = {True: "lfs", False: "regular"}
            modes = [
                {"path": f["path"], "uploadMode": kind[f["path"].endswith(LARGE)], "shouldIgnore": False} for f in files
            ]
            self.answer({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.address}/objects/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif self.path.startswith("/api/models/") and "/commit/" in self.path:
            name = "/".join(self.path.split("/")[3:5])
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[name][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[name][value["path"]] = hub.objects[value["oid"]]
            self.answer(
                {"success": True, "commitOid": "0" * 40, "commitUrl": f"{hub.address}/{name}/commit/{'0' * 40}"}
            )
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            self.answer({"error": f"no such address: {self.path}"}, 404)


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def pushed(run: Path, output: Path, hub: str, token: str | None, *arguments: str) -> subprocess.CompletedProcess:
    """The command in a process of its own, because huggingface_hub reads its settings when it is imported."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {
        "HF_ENDPOINT": hub,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(output.parent / "hf"),
        "no_proxy": "*",
    }
    environment |= {"HF_TOKEN": token} if token else {}
    command = [sys.executable, "-m", "headstart.cli", "export", str(run), str(output), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_run_is_pushed_file_by_file(run, tmp_path, hub):
    done = pushed(run, tmp_path / "out", hub.address, "right", "--push", "me/kichwa", "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.address}/me/kichwa"
    assert hub.made[0].get("private") is True or hub.made[0].get("visibility") == "private"  # by its version
    sent = {name: content for name, content in hub.files["me/kichwa"].items() if name != ".gitattributes"}
    assert sent == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert hashlib.sha256(sent["model.safetensors"]).hexdigest() in hub.objects


def test_what_the_hub_refuses_is_said_in_a_line(run, tmp_path, hub):
    for token, name, message in (
        (None, "me/kichwa", "there is no token for the hub"),
        ("wrong", "me/kichwa", "does not accept the token"),
        ("right", "other/kichwa", "the token may not write there"),
        ("right", "me/kich wa", "not a name of a repository"),
    ):
        done = pushed(run, tmp_path / "out", hub.address, token, "--push", name)
        assert done.returncode == 2 and message in done.stderr.splitlines()[-1], done.stderr
        assert "Traceback" not in done.stderr
    assert hub.files == {}


def test_a_hub_that_is_not_there_is_named(run, tmp_path):
    done = pushed(run, tmp_path / "out", "http://127.0.0.1:9", "right", "--push", "me/kichwa")
    assert done.returncode == 2 and "the hub at http://127.0.0.1:9 cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_push_nothing_is_asked_of_a_hub(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == ""
