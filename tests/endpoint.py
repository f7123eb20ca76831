"""A judge on loopback: an HTTP server that speaks OpenAI's protocol, and misbehaves as told."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-of-nobody-0123456789"
FAULTS = (
    "rate limit",
    "server error",
    "timeout",
    "truncated JSON",
    "closed connection",
    "no log-probabilities",
    "refusal",
    "other words",
)
USAGE = {"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 301}


@dataclass
class Endpoint:
    """What the server does, and what it was asked.

    Args:
        answer: from the user's message to the first token's log-probabilities, by token.
        fault: from the number of a request to one of FAULTS, "filtered", "nan", "negative usage",
            an HTTP status, or None.
        patience: seconds that a timeout takes.
    """

    answer: Callable[[str], dict[str, float]]
    fault: Callable[[int], str | int | None] = lambda number: None
    patience: float = 2.0
    url: str = ""
    requests: list[dict] = field(default_factory=list)
    outcomes: Counter = field(default_factory=Counter)
    paid: Counter = field(default_factory=Counter)  # useful answers, by the user's message
    waits: dict[str, list[float]] = field(default_factory=dict)  # when a message may come again
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Serve an endpoint on a free port."""

    class Handler(_Handler):
        pass

    Handler.endpoint = endpoint
    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that have lost their patience, or were killed, are expected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def log_message(self, format, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = body["messages"][-1]["content"]
        with self.endpoint.lock:
            number = len(self.endpoint.requests)
            early = time.monotonic() < self.endpoint.waits.get(message, 0)
            self.endpoint.requests.append(body | {"path": self.path, "early": early})
            fault = self.endpoint.fault(number)
            if self.headers["Authorization"] != f"Bearer {KEY}":
                fault = 401
            self.endpoint.outcomes[fault or "answer"] += 1
        self._respond(fault, message)

    def _respond(self, fault, message: str) -> None:
        match fault:
            case None:
                self._send(200, self._completion(message))
                with self.endpoint.lock:
                    self.endpoint.paid[message] += 1
            case "rate limit":
                with self.endpoint.lock:
                    self.endpoint.waits[message] = time.monotonic() + 1
                self._send(429, {"error": {"message": "too fast"}}, {"Retry-After": "1"})
            case "server error":
                self._send(500, {"error": {"message": "oops"}})
            case "timeout":
                time.sleep(self.endpoint.patience)
                self._send(200, self._completion(message))
            case "truncated JSON":
                text = json.dumps(self._completion(message))
                self._send_bytes(200, text[: len(text) // 2].encode())
            case "closed connection":
                self._send_bytes(200, b'{"choices"', length=1000)
                self.close_connection = True
            case "no log-probabilities":
                self._send(200, _completion(None))
            case "refusal":
                self._send(200, _completion({"content": None}, refusal="I'm sorry."))
            case "negative usage":
                usage = {"prompt_tokens": -300, "completion_tokens": -1}
                self._send(200, self._completion(message) | {"usage": usage})
            case "filtered":
                self._send(200, _completion(None, finish_reason="content_filter"))
            case "nan":
                self._send(200, _completion(_logprobs({"m": float("nan"), "M": -0.1})))
            case "other words":
                self._send(200, _completion(_logprobs({"I": -0.1, "Sorry": -3.0})))
            case status:
                # Some endpoints repeat what they were sent.
                self._send(status, {"error": {"message": f"no: {self.headers['Authorization']}"}})

    def _completion(self, message: str) -> dict:
        return _completion(_logprobs(self.endpoint.answer(message)))

    def _send(self, status: int, content: dict, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(content).encode(), headers=headers)

    def _send_bytes(self, status, content: bytes, *, length=None, headers=None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)


def _logprobs(tokens: dict[str, float]) -> dict:
    top = [{"token": t, "bytes": list(t.encode()), "logprob": p} for t, p in tokens.items()]
    return {"content": [top[0] | {"top_logprobs": top}]}


def _completion(
    logprobs: dict | None, refusal: str | None = None, finish_reason: str = "length"
) -> dict:
    """A chat completion, as OpenAI writes it."""
    message = {"role": "assistant", "content": "m", "refusal": refusal}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "gpt-4.1-2025-04-14",
        "choices": [choice],
        "usage": USAGE,
    }
