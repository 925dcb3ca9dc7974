"""A real HTTP server that speaks as an OpenAI-compatible one, well or badly, by rules; and what it was asked."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = {"comment": "fine", "accuracy": 90, "logic": 80, "format": 100, "fluency": 95, "total": 91.5}


def completion(content: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion as servers give it."""
    return {
        "choices": [{"finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20},
    }


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; a body that is text or bytes is sent as it is."""

    body: Any = field(default_factory=lambda: completion(json.dumps(GOOD)))
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    drip: float = 0.0  # seconds between two bytes of the body
    times: int = 1  # the body is sent so many times, as one


@dataclass
class Server:
    """``rule(item, try, request)`` decides each answer; an item is the number that its answer block holds."""

    rule: Callable[[str, int, dict[str, Any]], Answer]
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0
    most_under_way: int = 0
    times: list[float] = field(default_factory=list)

    def answer(self, request: dict[str, Any]) -> Answer:
        text = "".join(part.get("text", "") for part in request["messages"][0]["content"])
        found = re.search(r"<answer> ?(.*?) ?</answer>", text.split("[answer ")[-1])
        item = found[1] if found else ""
        with self.lock:
            self.requests.append(request)
            self.times.append(time.monotonic())
            number = self.tries[item]
            self.tries[item] += 1
        return self.rule(item, number, request)


@contextmanager
def judge_server(rule: Callable[[str, int, dict[str, Any]], Answer] = lambda *_: Answer()) -> Iterator[Server]:
    """A server on a free port of this machine; it is gone after the block."""
    server = Server(rule=rule)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = {**json.loads(body), "path": self.path, "headers": dict(self.headers)}
            request["authorization"] = self.headers.get("Authorization")
            with server.lock:
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
            try:
                answer = server.answer(request)
                time.sleep(answer.delay)
            finally:
                with server.lock:
                    server.under_way -= 1
            body = answer.body if isinstance(answer.body, str | bytes) else json.dumps(answer.body)
            data = body.encode() if isinstance(body, str) else body
            try:
                self.send_response(answer.status)
                for name, value in (("Content-Type", "application/json"), *answer.headers):
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data) * answer.times))
                self.end_headers()
                if answer.drip:
                    for byte in data:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        time.sleep(answer.drip)
                else:
                    for _ in range(answer.times):
                        self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):  # the client has gone, as a time-out and a kill make it
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Not to the console."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """A connection that a kill cut is no event here."""

    listening = Quiet(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_port}/v1"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
