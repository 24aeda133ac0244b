"""A conversation with a model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from attune.errors import DataError
from attune.records import Message

if TYPE_CHECKING:
    from attune.generate.engine import Engine

__all__ = ["chat", "classify_loop"]

HELP = "/reset starts anew, /quit ends (so does Ctrl-D)"


def _lines(prompt: str, source: TextIO, out: TextIO) -> Iterator[str]:
    """What the user types, line by line; without a terminal plain lines and no prompt."""
    terminal = source.isatty() and out.isatty()
    if terminal:
        # Line editing and history, where Python was built with it.
        try:
            import readline  # noqa: F401
        except ImportError:
            pass
        print(HELP, file=sys.stderr)
    while True:
        try:
            if terminal and source is sys.stdin:
                line = input(prompt)
            else:
                line = source.readline()
                if not line:
                    return
        except EOFError:
            return
        except KeyboardInterrupt:
            print(file=out)
            return
        if line.strip() == "/quit":
            return
        if line.strip():
            yield line.rstrip("\n")


def chat(
    engine: Engine,
    prompt_ids: Callable[[Sequence[Message], Sequence[dict]], list[int]],
    *,
    system: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    source: TextIO | None = None,
    out: TextIO | None = None,
) -> list[Message]:
    """Talk in turns until /quit or the end of input; returns the conversation. Answers appear as they are written.

    A turn that does not fit the context is refused and the conversation goes on without it. Ctrl-C ends an answer, not
    the conversation.
    """
    source, out = source or sys.stdin, out or sys.stdout
    start = [Message("system", system)] if system else []
    turns = list(start)
    for line in _lines("> ", source, out):
        if line.strip() == "/reset":
            turns = list(start)
            continue
        asked = [*turns, Message("user", line)]
        pieces: list[str] = []
        try:
            for piece in engine.stream(
                prompt_ids(asked, ()),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=seed + len(asked),
            ):
                pieces.append(piece)
                print(piece, end="", file=out, flush=True)
        except KeyboardInterrupt:
            pass
        except DataError as error:
            print(f"{error}\n  fix: /reset starts a new conversation", file=sys.stderr)
            continue
        print(file=out, flush=True)
        turns = [*asked, Message("assistant", "".join(pieces))]
    return turns


def classify_loop(
    predict: Callable[[str], Sequence[float]],
    labels: Sequence[str],
    *,
    top: int = 5,
    source: TextIO | None = None,
    out: TextIO | None = None,
) -> None:
    """Print the likeliest labels of each line with their probabilities, until /quit or the end of input."""
    source, out = source or sys.stdin, out or sys.stdout
    for line in _lines("text> ", source, out):
        if line.strip() == "/reset":
            continue
        ranked = sorted(zip(predict(line), labels), key=lambda pair: -pair[0])[:top]
        width = max(len(label) for _, label in ranked)
        for probability, label in ranked:
            print(f"{label:<{width}}  {probability:.3f}", file=out)
        print(file=out, flush=True)
