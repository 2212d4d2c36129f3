"""A server that speaks OpenAI's chat completions over HTTP: log-probabilities, faults, rate limits, waits."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Tops = list[tuple[str, float]]


def tokens_of(*positions: Tops) -> dict[str, Any]:
    """Return log-probabilities as OpenAI sends them; the first of each place is the token of the reply."""
    content = []
    for tops in positions:
        listed = [{"token": token, "logprob": log, "bytes": list(token.encode())} for token, log in tops]
        content.append({**listed[0], "top_logprobs": listed})
    return {"content": content, "refusal": None}


def reply(
    text: str, positions: list[Tops] | None = None, *, finish: str = "stop", refusal: str | None = None
) -> dict[str, Any]:
    """Return one choice of a chat completion."""
    return {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, "refusal": refusal},
        "logprobs": None if positions is None else tokens_of(*positions),
    }


def plainly(text: str, probability: float = 0.9) -> dict[str, Any]:
    """Return a reply of one token of this probability."""
    log = math.log(probability)
    return reply(text, [[(text, log), ("zzz", math.log1p(-probability) - 1.0)]])


class FaultError(Exception):
    """What the server answers with instead: an HTTP status, with headers."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers


class Server:
    """A server on a free port of this machine, which counts what it was asked and what it answered.

    Parameters
    ----------
    answer
        Gets the body of a request, and returns its choices; or raises `FaultError`.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> None:
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.before: Callable[[dict[str, Any]], None] = lambda body: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = json.dumps([body["model"], body["messages"]])
                with outer.lock:
                    outer.asked[key] += 1
                    outer.bodies.append(body)
                outer.before(body)
                status, headers = 200, {}
                try:
                    choices = answer(body)
                    record: dict[str, Any] = {
                        "id": "chatcmpl-1",
                        "object": "chat.completion",
                        "created": 1,
                        "model": body["model"],
                        "choices": choices,
                        "usage": {
                            "prompt_tokens": 20,
                            "completion_tokens": 2 * len(choices),
                            "total_tokens": 20 + 2 * len(choices),
                        },
                    }
                except FaultError as fault:
                    status, headers = fault.status, fault.headers
                    record = {"error": {"message": "no", "type": "fault", "code": None}}
                data = json.dumps(record).encode()
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    return
                if status == 200:
                    with outer.lock:
                        outer.answered[key] += 1

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        """What programs are given as the base URL."""
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    @property
    def calls(self) -> int:
        """How many requests came."""
        return sum(self.asked.values())

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
