"""A small server of the chat API in a thread, with the shapes of responses that vLLM and llama-cpp-python give."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

LOOP = "Wait, let me check that once more. "


def whole(request: dict[str, Any], text: str = "It is \\boxed{4}.", end: str = "stop", **choice: Any) -> dict[str, Any]:
  """A response that is not streamed."""
  message = {"role": "assistant", "content": text, "reasoning_content": None, "tool_calls": []}
  return {
    "id": "chatcmpl-7", "object": "chat.completion", "created": 1760000000, "model": f"served-{request['model']}",
    "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": end, **choice}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}, "prompt_logprobs": None,
  }  # fmt: skip


def logprobs(*values: float) -> dict[str, Any]:
  """Log-probabilities in the chat API's layout, for tokens that all read alike."""
  return {"content": [{"token": "a", "logprob": one, "bytes": [97], "top_logprobs": []} for one in values]}


def chunks(
  request: dict[str, Any], pieces: list[str], end: str | None = "stop", field: str = "content", ids: bool = False
) -> Iterator[dict[str, Any]]:  # fmt: skip
  """The pieces of a streamed response; `end=None` breaks it off."""
  head = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1760000000, "model": request["model"]}
  yield {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
  for number, piece in enumerate(pieces):
    choice = {"index": 0, "delta": {field: piece}, "logprobs": logprobs(-0.5), "finish_reason": None}
    yield {**head, "choices": [{**choice, **({"token_ids": [number % 7]} if ids else {})}]}
  if end:
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": end, "stop_reason": None}]}
    yield {**head, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(pieces), "total_tokens": 15}}


class Server:
  """What the handler answers with, and what it was asked.

  Attributes:
    answer: request and its number -> a response, `send`'s arguments, an iterator of chunks, or None to hang up.
    requests: those so far.
    sent: chunks so far.
    url: the address.
  """

  def __init__(self, answer: Callable[[dict[str, Any], int], Any]):
    self.answer, self.requests, self.sent, self.lock = answer, list[dict[str, Any]](), 0, threading.Lock()
    self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
    self.httpd.daemon_threads = True
    self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}/v1"

  def close(self) -> None:
    """Takes no request any more."""
    self.httpd.shutdown()
    self.httpd.server_close()


@contextlib.contextmanager
def serve(answer: Callable[[dict[str, Any], int], Any] = lambda request, number: whole(request)) -> Iterator[Server]:
  """A server for whoever is in the context."""
  server = Server(answer)
  threading.Thread(target=server.httpd.serve_forever, args=(0.01,), daemon=True).start()
  try:
    yield server
  finally:
    server.close()


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
  class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
      pass

    def do_POST(self) -> None:
      request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
      with server.lock:
        server.requests.append(request)
        number = len(server.requests)
      with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        self.reply(server.answer(request, number))

    def reply(self, answer: Any) -> None:
      if answer is None:
        self.connection.close()
      elif isinstance(answer, dict):
        self.send(200, json.dumps(answer), "application/json")
      elif isinstance(answer, tuple):
        self.send(*answer)
      else:
        self.stream(answer)

    def send(self, status: int, text: str, kind: str = "application/json", retry_after: str = "0") -> None:
      self.send_response(status)
      self.send_header("Retry-After", retry_after)
      self.send_header("Content-Type", kind)
      self.send_header("Content-Length", str(len(text.encode())))
      self.end_headers()
      self.wfile.write(text.encode())

    def stream(self, answer: Iterator[dict[str, Any]]) -> None:
      self.send_response(200)
      self.send_header("Content-Type", "text/event-stream")
      self.end_headers()
      for chunk in answer:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        server.sent += 1
        time.sleep(0.0005)
      self.wfile.write(b"data: [DONE]\n\n")

  return Handler
