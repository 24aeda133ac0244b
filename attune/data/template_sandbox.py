"""Chat templates are programs that came with somebody's weights: they run in a process of their own, with limits.

The process has no credentials in its environment, 2 s of processor time and 512 MiB a call, and its output is capped.
It is started at the first rendering of a foreign template and reused; a call that does not return is killed. Templates
that attune ships render in this process.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from attune.errors import DataError

__all__ = [
    "TemplateFailure",
    "compile_template",
    "render",
    "variables_of",
    "CPU_LIMIT_S",
    "WALL_LIMIT_S",
    "SOURCE_LIMIT_BYTES",
]

CPU_LIMIT_S = 2.0
WALL_LIMIT_S = 10.0
"""Beyond the processor time, for a call that hangs without computing (or a machine that is very busy)."""
MEMORY_LIMIT_BYTES = 512 << 20
OUTPUT_LIMIT_CHARACTERS = 4 << 20
SOURCE_LIMIT_BYTES = 1 << 20


class TemplateFailure(Exception):
    """A template raised, or broke a limit. `kind`: syntax | raised | limit."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@lru_cache(maxsize=16)
def compile_template(source: str) -> Any:
    """Compile as transformers does: the same sandbox, whitespace rules, filters and `{% generation %}` tag.

    Raises: TemplateFailure with the line of a syntax error.
    """
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["**"])  # the one operator that can compute for minutes without a Python step

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if abs(right) > 64:
                raise TemplateFailure("limit", "the template raises a number to a huge power")
            return left**right

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

        def _same(self, caller: Any) -> str:
            return caller()

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(
        raise_exception=raise_exception,
        strftime_now=lambda form: datetime.now().strftime(form),
        namespace=Namespace,
    )
    if len(source.encode("utf-8", "surrogatepass")) > SOURCE_LIMIT_BYTES:
        raise TemplateFailure("limit", f"the template is longer than {SOURCE_LIMIT_BYTES} bytes")
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateFailure("syntax", f"line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError) as error:
        raise TemplateFailure("limit", "the template is nested too deeply") from error


def _render_here(source: str, calls: list[dict[str, Any]]) -> list[str]:
    template = compile_template(source)
    texts = []
    for variables in calls:
        limit = OUTPUT_LIMIT_CHARACTERS + 4 * len(json.dumps(variables))
        parts, size = [], 0
        try:
            for part in template.generate(**variables):
                size += len(part)
                if size > limit:
                    raise TemplateFailure("limit", f"the template writes more than {limit} characters")
                parts.append(part)
        except TemplateFailure:
            raise
        except (RecursionError, MemoryError) as error:
            name = "memory" if isinstance(error, MemoryError) else "depth"
            raise TemplateFailure("limit", f"the template needs too much {name}") from error
        except Exception as error:  # whatever a foreign program raises is the template's failure, not ours
            raise TemplateFailure("raised", str(error) or type(error).__name__) from error
        texts.append("".join(parts))
    return texts


def _serve() -> None:
    """The child: one JSON request a line on stdin, one JSON answer a line on stdout."""
    import resource

    import jinja2.sandbox  # noqa: F401  before the limit on memory

    def out_of_time(signum: int, frame: Any) -> None:
        raise TemplateFailure("limit", f"the template computes for more than {CPU_LIMIT_S:g} s")

    signal.signal(signal.SIGVTALRM, out_of_time)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    except (ValueError, OSError):  # macOS refuses it; the limits on time and output remain
        pass
    for line in sys.stdin.buffer:
        try:
            request = json.loads(line)
            signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT_S)
            try:
                answer: dict[str, Any] = {"texts": _render_here(request["source"], request["calls"])}
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except TemplateFailure as failure:
            answer = {"kind": failure.kind, "message": str(failure)[:2000]}
        except MemoryError:
            answer = {"kind": "limit", "message": "the template needs too much memory"}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


class _Child:
    """The rendering process, shared by all threads of this one."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """After a fork the pipes, and maybe the lock, belong to the parent."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            code = (
                "import json,sys; sys.path[:] = json.loads(sys.argv[1]); "
                "from attune.data.template_sandbox import _serve; _serve()"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", code, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ},
            )
        return self._process

    def render(self, source: str, calls: list[dict[str, Any]]) -> list[str]:
        line = json.dumps({"source": source, "calls": calls}).encode() + b"\n"
        with self._lock:
            process = self._start()
            assert process.stdin and process.stdout
            try:
                process.stdin.write(line)
                process.stdin.flush()
                # The child writes its whole answer at once, so waiting for the first byte is waiting for the answer.
                if not select.select([process.stdout], [], [], WALL_LIMIT_S)[0]:
                    raise TemplateFailure("limit", f"the template does not return within {WALL_LIMIT_S:g} s")
                answer = process.stdout.readline()
            except (OSError, TemplateFailure) as error:
                self.stop()
                if isinstance(error, TemplateFailure):
                    raise
                answer = b""
            if not answer:
                self.stop()
                raise TemplateFailure("limit", "the template brought its process down")
        found = json.loads(answer)
        if "texts" in found:
            return found["texts"]
        raise TemplateFailure(found["kind"], found["message"])

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_child = _Child()
atexit.register(lambda: _child.stop())
os.register_at_fork(after_in_child=_child.forget)


def render(
    source: str, calls: list[dict[str, Any]], *, trusted: bool = False, name: str = "chat template"
) -> list[str]:
    """The text of each call's variables (JSON values), in order.

    Raises: TemplateFailure when the template itself raises (the caller knows the record); DataError naming the
    template for syntax errors and broken limits.
    """
    try:
        return _render_here(source, calls) if trusted else _child.render(source, calls)
    except TemplateFailure as failure:
        if failure.kind == "raised":
            raise
        what = "cannot be read" if failure.kind == "syntax" else "was stopped"
        raise DataError(
            f"the {name} {what}", why=str(failure), fix="use another template, or correct this one"
        ) from None


def variables_of(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]], *, generation: bool, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """What a template sees, as transformers passes it."""
    return {
        "messages": messages,
        "tools": tools or None,
        "documents": None,
        "add_generation_prompt": generation,
        **extra,
    }
