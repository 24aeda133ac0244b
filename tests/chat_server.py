"""A small real chat-completions server, a process of its own: answers by rule, misbehaves on order.

`python chat_server.py` prints its port. `POST /v1/chat/completions` answers; `POST /plan` takes a list of what the next
requests get instead: a status, `slow`, `drip`, `garbage`, `empty`, `close`, `cut`; `GET /seen` tells what came.
Started by `started()`, which the tests load from this file.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENGLISH = {
    "please": "bitte",
    "card": "Karte",
    "where": "wo",
    "money": "Geld",
    "lost": "verloren",
    "my": "mein",
    "transfer": "Überweisung",
}


class State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.plan: list[Any] = []
        self.delay = 0.0
        self.wanted_key = ""
        self.seen: list[dict[str, Any]] = []
        self.running = self.most_running = 0


STATE = State()


def answer_to(messages: list[dict[str, str]], seed: int | None) -> str:
    """What a well-behaved model would write, by rule."""
    told = messages[0]["content"]
    text = messages[-1]["content"]
    if "Rewrite the user's text" in told:
        if "lose the number" in text:
            return re.sub(r"\d+", "some", "Kindly " + text)
        if "turn around" in text:
            return text.replace("is ", "is not ")
        if "copy me" in text:
            return text
        return f'"Kindly note: {text} ({["thanks", "cheers", "regards"][(seed or 0) % 3]})"'
    if "Translate the user's text into English" in told:
        back = {foreign: home for home, foreign in ENGLISH.items()}
        return " ".join(back.get(word, word) for word in text.removeprefix("DE ").removeprefix("FR ").split()) + " now"
    if "Translate the user's text into" in told:
        code = "DE" if "German" in told else "FR"
        return f"{code} " + " ".join(ENGLISH.get(word, word) for word in text.split())
    if "question" in told and "JSON" in told:
        sentences = [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if len(part.split()) > 3]
        pairs = [{"question": f"What is said about {s.split()[1]} {s.split()[2]}?", "answer": s} for s in sentences[:2]]
        pairs.append({"question": "Who painted the moon?", "answer": "Leonardo painted the moon in 1512."})
        return "```json\n" + json.dumps(pairs) + "\n```"
    if "instruction" in told and "JSON" in told:
        told = f"State the rule on {' '.join(text.split()[1:5])}."
        return json.dumps([{"instruction": told, "answer": text.split(". ")[0] + "."}])
    if "Summarise" in told:
        return text.split(". ")[0].strip() + "."
    if "exactly one of these classes" in told or "exactly one class" in told:
        classes = re.search(r"Classes: (.*)", told)[1].split(", ")  # type: ignore[index]
        named = [name for name in classes if name.lower() in text.lower()]
        if "unsure" in text:
            return classes[(seed or 0) % len(classes)]
        return named[0] if named else classes[0]
    if "yes or no" in told:
        return "no" if "doubtful" in text else "yes"
    return f"You said: {text}"


class Chat(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        with STATE.lock:
            self._send(200, json.dumps({"seen": STATE.seen, "most_running": STATE.most_running}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/plan":
            with STATE.lock:
                STATE.plan = list(body.get("plan", []))
                STATE.delay = body.get("delay", 0.0)
                STATE.wanted_key = body.get("key", "")
                STATE.seen.clear()
                STATE.most_running = 0
            self._send(200, b"{}")
            return
        with STATE.lock:
            what = STATE.plan.pop(0) if STATE.plan else "ok"
            entry = {
                "text": body["messages"][-1]["content"],
                "name": self.headers.get("Idempotency-Key"),
                "key": self.headers.get("Authorization"),
                "at": time.monotonic(),
                "got": what,
                "body": body,
                "done": False,
            }
            STATE.seen.append(entry)
        try:
            self._chat(body, what)
            entry["done"] = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _chat(self, body: dict[str, Any], what: Any) -> None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if STATE.wanted_key and key != STATE.wanted_key:
            self._error(401, f"Incorrect API key provided: {key}")
        elif isinstance(what, dict):
            self._error(what["status"], what.get("said", "no"), what.get("headers"), what.get("code"))
        elif isinstance(what, int):
            self._error(what, "no")
        elif what == "garbage":
            self._send(200, b"<html>Welcome to the proxy</html>")
        elif what == "empty":
            self._send(200, b'{"choices": []}')
        elif what == "close":
            self.close_connection = True
            self.connection.close()
        elif what == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        elif what == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            for _ in range(60):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
        else:
            if what == "slow":
                time.sleep(3.0)  # the asker has given up on it long before: not under way any more
            else:
                self._think(STATE.delay)
            text = answer_to(body["messages"], body.get("seed"))
            words = len(text.split())
            finish = "length" if words > (body.get("max_tokens") or 10**6) else "stop"
            reply = {
                "object": "chat.completion",
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
                "usage": {"prompt_tokens": len(body["messages"][-1]["content"].split()), "completion_tokens": words},
            }
            if body.get("logprobs"):
                sure = -0.01 if "unsure" not in body["messages"][-1]["content"] else -1.5
                reply["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": sure}]}
            self._send(200, json.dumps(reply).encode())

    def _think(self, seconds: float) -> None:
        # over before the answer leaves: else the asker's next question may be counted beside the one just answered
        with STATE.lock:
            STATE.running += 1
            STATE.most_running = max(STATE.most_running, STATE.running)
        try:
            time.sleep(seconds)
        finally:
            with STATE.lock:
                STATE.running -= 1

    def _error(self, status: int, said: str, headers: dict[str, str] | None = None, code: str | None = None) -> None:
        self._send(status, json.dumps({"error": {"message": said, "code": code}}).encode(), headers)


class Server:
    """The process, as a test sees it."""

    def __init__(self, port: int):
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    def plan(self, *what: Any, delay: float = 0.0, key: str = "") -> None:
        """What the next requests get; forgets what came before."""
        body = json.dumps({"plan": what, "delay": delay, "key": key}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.root}/plan", body), timeout=10).close()

    def told(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.root}/seen", timeout=10) as reply:
            return json.load(reply)

    @property
    def seen(self) -> list[dict[str, Any]]:
        return self.told()["seen"]

    def count(self) -> int:
        """How many questions came, once no more come: what a killed asker had sent may still wait to be read."""
        found = -1
        while found != (found := len(self.seen)):
            time.sleep(0.3)
        return found


@contextmanager
def started() -> Iterator[Server]:
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        yield Server(int(process.stdout.readline()))  # type: ignore[union-attr]
    finally:
        process.kill()
        process.wait()


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    listener = Listener(("127.0.0.1", 0), Chat)
    print(listener.server_address[1], flush=True)
    listener.serve_forever()
