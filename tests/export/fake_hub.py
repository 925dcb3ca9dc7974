"""A hub on this machine: the few addresses that an upload by huggingface_hub asks, over real HTTP.

By the client's own source (``hf_api.py``, ``_commit_api.py``, ``lfs.py`` of huggingface_hub 1.33): making a repository,
which files go to large-file storage, the storage's batch and upload, and the commit as JSON lines.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_PlantedSecretOfTheTest"


@dataclass
class Hub:
    """What was asked and stored."""

    address: str = ""
    refuses: int | None = None  # status of every answer to a commit, to see what a person is told
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> body of its making
    stored: dict[str, bytes] = field(default_factory=dict)  # SHA-256 -> content
    files: dict[str, bytes] = field(default_factory=dict)  # path in the repository -> content
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Authorization


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"id": "OWNER/NAME"})

        def do_POST(self) -> None:
            body = self._body()
            if self.path == "/api/repos/create":
                made = json.loads(body)
                name = f"{made.get('organization') or 'someone'}/{made['name']}"
                hub.repositories[name] = made
                self._answer({"url": f"{hub.address}/{name}", "name": name})
            elif self.path == "/api/validate-yaml":  # of the card's front matter
                self._answer({"warnings": [], "errors": []})
            elif "/preupload/" in self.path:
                files = [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for each in json.loads(body)["files"]
                ]
                self._answer({"files": files})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**each, "actions": {"upload": {"href": f"{hub.address}/storage/{each['oid']}"}}}
                    for each in json.loads(body)["objects"]
                ]
                self._answer({"transfer": "basic", "objects": objects})
            elif "/commit/" in self.path:
                self._commit(body)
            else:
                self.send_error(404)

        def do_PUT(self) -> None:
            body = self._body()
            name = self.path.rpartition("/")[2]
            assert hashlib.sha256(body).hexdigest() == name
            hub.stored[name] = body
            self._answer({})

        def _commit(self, body: bytes) -> None:
            if hub.refuses is not None:
                self.send_error(hub.refuses)
                return
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.stored[value["oid"]]
                else:
                    assert line["key"] == "header", line
            repository = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            address = f"{hub.address}/{repository}/commit/{'0' * 40}"
            self._answer({"commitUrl": address, "commitOid": "0" * 40, "success": True})

        def _body(self) -> bytes:
            hub.asked.append((self.command, self.path, self.headers.get("Authorization")))
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, value: Any) -> None:
            text = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
