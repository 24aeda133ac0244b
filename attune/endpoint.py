"""Any OpenAI-compatible server as a source of text: many questions at once, retried, limited, and never paid twice.

Only the standard library is used: of the chat-completions interface attune needs one POST, and the same code must run
where nothing but attune is installed.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from attune import http_json
from attune.errors import MachineError, UsageError
from attune.journal import Journal, key_of
from attune.plugins import Options

__all__ = ["Answer", "Ask", "Endpoint", "EndpointOptions"]

FIRST_WAIT_S, LONGEST_BACKOFF_S = 0.5, 60.0
TOO_MUCH = (
    "context length",
    "context_length",
    "maximum context",
    "too long",
    "content_filter",
    "content filter",
    "content_policy",
    "content management policy",
)
"""What servers say in a refusal (400, 413, 422) that concerns one question; any other refusal concerns them all."""


class EndpointOptions(Options):
    """An OpenAI-compatible server and how hard it may be worked."""

    model: str
    """The model's name as the server knows it."""
    base_url: str | None = None
    """Where it is, as `http://localhost:8000/v1`. Without it, the environment's `OPENAI_BASE_URL`. No server is the
    default: nothing leaves the machine unless you name where it goes."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the key (never the key itself). Unset: no key is sent."""
    temperature: float | None = Field(default=0.7, ge=0)
    """0 asks for the likeliest answer. `null` leaves it to the server (some models refuse it)."""
    max_tokens: int | None = Field(default=1024, ge=1)
    """Longest answer. `null` leaves it to the server."""
    extra: dict[str, Any] = {}
    """More fields of the request, as `{max_completion_tokens: 800}` or `{reasoning_effort: low}`."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Longest wait for one answer."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Questions under way at one time."""
    retries: int = Field(default=6, ge=0)
    """How often a question is asked again after 429, 5xx, a timeout, a lost connection or an unreadable answer."""
    longest_wait_s: float = Field(default=300.0, gt=0)
    """A server that asks (Retry-After) for a longer wait than this ends the job; what was answered is kept."""
    max_requests: int | None = Field(default=None, ge=1)
    """Most different questions the job may ask, those answered in an earlier attempt included."""
    max_cost: float | None = Field(default=None, gt=0)
    """Most the job may cost (in the currency of the prices), earlier attempts included."""
    price_in: float | None = Field(default=None, ge=0)
    """Price of one million prompt tokens."""
    price_out: float | None = Field(default=None, ge=0)
    """Price of one million answer tokens."""

    @model_validator(mode="after")
    def _priced(self) -> EndpointOptions:
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise ValueError("max_cost needs price_in and price_out (per million tokens)")
        if self.max_cost is not None and self.max_tokens is None and not self.extra.get("max_completion_tokens"):
            raise ValueError("max_cost needs max_tokens (or extra.max_completion_tokens): else an answer has no limit")
        taken = {"model", "messages", "stream", "n"} & set(self.extra)
        if taken:
            raise ValueError(f"extra cannot set {', '.join(sorted(taken))}")
        return self


@dataclass(frozen=True, slots=True)
class Ask:
    """One question. What is None is as the endpoint's options say."""

    messages: tuple[dict[str, str], ...]
    seed: int | None = None
    """Questions that differ only here get their own answers (samples)."""
    temperature: float | None = None
    max_tokens: int | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    text: str | None
    """None where the server refuses this one question (too long, filtered); `finish` says why."""
    finish: str = ""
    """`stop`, `length` (cut off), or the reason of a refusal."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    logp: float | None = None
    """Summed log-probability (nats) of the answer's tokens, where asked for and given."""

    @property
    def whole(self) -> str | None:
        """The text, if it was not cut off."""
        return self.text if self.finish != "length" else None


class Endpoint:
    """Asks an OpenAI-compatible server. Same questions and journal, same answers, whatever the order they came in.

    Raises: UsageError without a base URL or with one that is none.
    """

    def __init__(self, options: EndpointOptions, *, journal: str | Path | None = None, api_key: str | None = None):
        self.options = options
        self.base_url = _checked(options.base_url or os.environ.get("OPENAI_BASE_URL", ""))
        self._key = (api_key or os.environ.get(options.api_key_env, "")).strip()
        if not self._key.isascii() or any(char.isspace() for char in self._key):
            raise UsageError(
                "the API key is not one word of plain characters", fix=f"set {options.api_key_env} to the key alone"
            )
        self.journal = Journal(journal) if journal is not None else None
        self._memory: dict[str, Answer] = {}
        self.counts: Counter[str] = Counter()
        """sent (requests on the wire), again (retries among them), kept (answers the journal had)."""
        self._money = threading.Condition()
        self._used: set[str] = set()
        self._spent = self._reserved = 0.0
        self._tokens = [0, 0]
        self._quiet_until = 0.0
        self._stop = threading.Event()

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, asks: Sequence[Ask]) -> list[Answer]:
        return self.ask(asks)

    @property
    def name(self) -> str:
        return f"{self.options.model} at {self.base_url}"

    def facts(self) -> dict[str, Any]:
        """Where the questions went and what they took, however many attempts the job had: questions, tokens, cost."""
        row: dict[str, Any] = {"server": self.base_url, "model": self.options.model, "questions": len(self._used)}
        row |= {"tokens_in": self._tokens[0], "tokens_out": self._tokens[1]}
        if self.options.price_in is not None and self.options.price_out is not None:
            row["cost"] = round(self._spent, 6)
        return row

    def ask(self, asks: Sequence[Ask], progress: Callable[[int, int], None] | None = None) -> list[Answer]:
        """Answers, in the order of the questions; equal questions are asked once.

        Raises: MachineError when the server cannot be used, a limit is reached, or it stays silent after all retries.
        What was answered until then is in the journal.
        """
        bodies = [self._body(ask) for ask in asks]
        keys = [key_of([self.base_url, body]) for body in bodies]
        todo = {}
        for key, body in zip(keys, bodies):
            if key not in todo and key not in self._used:
                todo[key] = body
        most = self.options.max_requests
        if most is not None and len(self._used) + len(todo) > most:
            raise MachineError(
                f"{len(self._used) + len(todo):,} questions are needed, max_requests allows {most:,}",
                fix="raise max_requests, or lower how much is to be made; nothing was asked",
            )
        self._settle_known(todo)
        if todo:
            self._work(list(todo.items()), progress)
        return [self._known(key) for key in keys]

    # keeping books ----------------------------------------------------------------------------------------------------

    def _known(self, key: str) -> Answer:
        if self.journal is not None:
            return Answer(**(self.journal.get(key) or {}))
        return self._memory[key]

    def _settle_known(self, todo: dict[str, dict[str, Any]]) -> None:
        for key in [key for key in todo if self.journal is not None and key in self.journal]:
            self._book(key, self._known(key), todo.pop(key))
            self.counts["kept"] += 1

    def _book(self, key: str, answer: Answer, body: dict[str, Any]) -> None:
        self._used.add(key)
        self._tokens[0] += answer.tokens_in or 0
        self._tokens[1] += answer.tokens_out or 0
        if answer.tokens_in is None or answer.tokens_out is None:
            self._spent += self._most_it_costs(body) if answer.text is not None else 0.0
        else:
            self._spent += self._cost(answer.tokens_in, answer.tokens_out)

    def _cost(self, tokens_in: float, tokens_out: float) -> float:
        return (tokens_in * (self.options.price_in or 0) + tokens_out * (self.options.price_out or 0)) / 1e6

    def _most_it_costs(self, body: dict[str, Any]) -> float:
        """A bound from above: no common tokenizer has more than one token for two bytes of running text."""
        size = sum(len(str(message["content"]).encode("utf-8", "replace")) // 2 + 16 for message in body["messages"])
        return self._cost(size, body.get("max_tokens") or body.get("max_completion_tokens") or 0)

    def _reserve(self, body: dict[str, Any]) -> float:
        most = self.options.max_cost
        if most is None:
            return 0.0
        price = self._most_it_costs(body)
        with self._money:
            while self._spent + self._reserved + price > most and self._reserved > 0 and not self._stop.is_set():
                self._money.wait(0.5)  # answers under way mostly cost less than their bound
            if self._spent + self._reserved + price > most:
                raise MachineError(
                    f"the next question may cost {price:.4f}; {self._spent:.4f} of max_cost {most} is spent",
                    fix="raise max_cost and run it again: what was answered is kept",
                )
            self._reserved += price
        return price

    # asking -----------------------------------------------------------------------------------------------------------

    def _body(self, ask: Ask) -> dict[str, Any]:
        chosen = self.options
        body: dict[str, Any] = {"model": chosen.model, "messages": [dict(message) for message in ask.messages]}
        temperature = chosen.temperature if ask.temperature is None else ask.temperature
        # null in the options says that this model refuses the field: then a question does not set it either
        if temperature is not None and chosen.temperature is not None:
            body["temperature"] = temperature
        if chosen.max_tokens is not None:
            body["max_tokens"] = min(ask.max_tokens or chosen.max_tokens, chosen.max_tokens)
        if ask.seed is not None:
            body["seed"] = ask.seed
        if ask.logprobs:
            body["logprobs"] = True
        return body | chosen.extra

    def _work(self, todo: list[tuple[str, dict[str, Any]]], progress: Callable[[int, int], None] | None) -> None:
        self._stop.clear()
        lock, waiting, done = threading.Lock(), iter(todo), 0
        failures: list[BaseException] = []

        def work() -> None:
            nonlocal done
            while not self._stop.is_set():
                with lock:
                    item = next(waiting, None)
                if item is None:
                    return
                try:
                    self._settle(*item)
                except BaseException as error:  # goes on in the caller's thread
                    failures.append(error)
                    self._stop.set()
                    return
                with lock:
                    done += 1

        crew = [
            threading.Thread(target=work, daemon=True, name=f"ask-{number}")
            for number in range(min(self.options.concurrency, len(todo)))
        ]
        for member in crew:
            member.start()
        try:
            for member in crew:
                while member.is_alive():
                    member.join(0.2)
                    if progress is not None:
                        progress(done, len(todo))
        except KeyboardInterrupt:
            self._stop.set()
            for member in crew:  # answers under way are paid for: wait until they are kept
                member.join()
            raise
        if failures:
            raise self._told(failures[0], done, len(todo))

    def _told(self, error: BaseException, done: int, total: int) -> BaseException:
        if isinstance(error, MachineError) and self.journal is not None and done:
            note = f"{done:,} of {total:,} new answers are kept in {self.journal.path} and will not be paid for again"
            error = MachineError(error.what, where=error.where, why=error.why, fix=f"{error.fix}; {note}")
        return error

    def _settle(self, key: str, body: dict[str, Any]) -> None:
        price = self._reserve(body)
        try:
            answer = self._asked(key, body)
            if self.journal is not None:
                self.journal.put(key, asdict(answer))
            else:
                self._memory[key] = answer
            with self._money:
                self._book(key, answer, body)
        finally:
            with self._money:
                self._reserved = max(0.0, self._reserved - price)
                self._money.notify_all()

    def _asked(self, key: str, body: dict[str, Any]) -> Answer:
        """One question until it is answered or the retries are used up."""
        reason = ""
        for attempt in range(self.options.retries + 1):
            self._pause(max(0.0, self._quiet_until - time.monotonic()))
            self.counts["sent"] += 1
            self.counts["again"] += attempt > 0
            try:
                reply = http_json.post(
                    f"{self.base_url}/chat/completions",
                    body,
                    # The same name for the same question: a server that knows it does not charge a retry twice.
                    headers={"Idempotency-Key": key} | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
                    timeout_s=self.options.timeout_s,
                )
            except http_json.Unusable as error:
                reason, wait = self._clean(str(error)), None
            else:
                if reply.status == 200:
                    answer = self._read(reply.value)
                    if answer is not None:
                        return answer
                    reason, wait = f"an answer without text: {self._clean(reply.shown)}", None
                else:
                    refusal = self._refusal(reply)
                    if refusal is not None:
                        return refusal
                    reason, wait = f"status {reply.status}: {self._clean(reply.shown)}", reply.retry_after_s
            if wait is not None and wait > self.options.longest_wait_s:
                raise MachineError(
                    f"{self.base_url} asks to wait {wait:,.0f} s",
                    why=reason,
                    fix="run it again later, or raise longest_wait_s",
                )
            if attempt < self.options.retries:
                backoff = min(LONGEST_BACKOFF_S, FIRST_WAIT_S * 2**attempt) * random.uniform(0.5, 1.0)
                if wait is not None:
                    self._quiet_until = max(self._quiet_until, time.monotonic() + wait)  # for all of them
                self._pause(backoff if wait is None else wait)
        raise MachineError(
            f"{self.base_url} gave no usable answer in {self.options.retries + 1} attempts",
            why=reason,
            fix="check the server, or raise timeout_s or retries, and run it again",
        )

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds) if seconds else self._stop.is_set():
            raise MachineError("stopped", fix="run it again")

    def _read(self, value: Any) -> Answer | None:
        try:
            choice = value["choices"][0]
            text, finish = choice["message"]["content"], choice.get("finish_reason") or "stop"
        except (KeyError, IndexError, TypeError, AttributeError):
            return None
        if finish == "content_filter":
            text = None
        elif not isinstance(text, str):
            return None
        usage = value.get("usage") if isinstance(value.get("usage"), dict) else {}
        sizes = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        tokens_in, tokens_out = (size if type(size) is int and size >= 0 else None for size in sizes)
        scored = (choice.get("logprobs") or {}).get("content") if isinstance(choice.get("logprobs"), dict) else None
        try:
            logp = float(sum(token["logprob"] for token in scored)) if scored else None
        except (KeyError, TypeError):
            logp = None
        if logp is not None and not logp <= 0:
            logp = None
        return Answer(None if text is None else self._hide(text), str(finish), tokens_in, tokens_out, logp)

    def _refusal(self, reply: http_json.Reply) -> Answer | None:
        """What an error status means: this one question (an Answer), all of them (raised), or try again (None)."""
        error = reply.value.get("error") if isinstance(reply.value, dict) else None
        code = str(error.get("code") or "") if isinstance(error, dict) else ""
        said = self._clean(reply.shown)
        fix = None
        if reply.status in (401, 403):
            fix = f"put a key that this server accepts into {self.options.api_key_env}"
        elif reply.status == 404:
            fix = f"check the model's name '{self.options.model}', and that base_url ends as the server wants it (/v1)"
        elif reply.status == 429 and code == "insufficient_quota":
            fix = "the account has no money left: top it up and run it again"
        elif 300 <= reply.status < 400:
            fix = "name the final address as base_url: a key is not sent on to another server"
        elif reply.status in (400, 413, 422):
            if reply.status == 413 or any(words in f"{code} {reply.shown}".lower() for words in TOO_MUCH):
                return Answer(None, said)
            fix = "change temperature, max_tokens or extra so that this model accepts them (null leaves a field out)"
        elif reply.status < 500 and reply.status not in (408, 409, 425, 429) or reply.status == 501:
            fix = "check that base_url is an OpenAI-compatible server"
        if fix is None:
            return None
        raise MachineError(f"{self.base_url} refuses: status {reply.status}", why=said, fix=fix)

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _clean(self, text: str) -> str:
        """What a server says, fit for a message: one line, not long, without the key."""
        return " ".join(self._hide(text).split())[:300]


def _checked(base_url: str) -> str:
    if not base_url:
        raise UsageError(
            "no endpoint is named",
            fix="set base_url or OPENAI_BASE_URL, as http://localhost:8000/v1 or https://api.openai.com/v1",
        )
    try:
        parts = urlsplit(base_url)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        whole = False
    if not whole or any(char.isspace() or ord(char) < 32 for char in base_url):
        raise UsageError(f"base_url {base_url!r} is not an address", fix="write it as http://localhost:8000/v1")
    if parts.username or parts.query or parts.fragment:
        raise UsageError(
            "base_url holds more than an address",
            why="a name, a password or a query in it would be written to journals and messages",
            fix="put the key into OPENAI_API_KEY",
        )
    return base_url.rstrip("/")
