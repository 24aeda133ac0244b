"""Hostile text: every pattern of the cleaners, and every cleaner, takes time in proportion to the text."""

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from functools import cache

import pytest

import attune.data.clean
from attune import plugins
from attune.data.clean.boilerplate import Boilerplate
from attune.data.steps import TextStep
from attune.records import Message, Record

TEXTS = [
    "control_characters", "unicode", "markup", "whitespace", "boilerplate", "dates", "citations", "numbers",
]  # fmt: skip


@cache
def cleaner(name: str) -> TextStep:
    step: TextStep = plugins.get("step", name)()
    if isinstance(step, Boilerplate):
        step.learn([Record(str(n), (Message("user", f"All rights reserved. {'x' * n}"),)) for n in range(20)])
    return step


@cache
def patterns() -> dict[str, re.Pattern[str]]:
    """Every compiled pattern in the folder and in `steps`, by name."""
    names = [f"attune.data.clean.{item.name}" for item in pkgutil.iter_modules(attune.data.clean.__path__)]
    found: dict[str, re.Pattern[str]] = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, re.Pattern):
            found[name] = value
        elif isinstance(value, dict):
            for key, one in value.items():
                collect(f"{name}.{key}", one)
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                collect(f"{name}.{number}", one)

    for module in [*names, "attune.data.steps"]:
        for name, value in vars(importlib.import_module(module)).items():
            collect(f"{module.rpartition('.')[2]}.{name}", value)
    return found


HOSTILE = [
    *"ab1 \n\r\t.,;:/-'\"()[]<>&#*_~`$%|@!?", "\r\n", "\u00a0", "\u2028", "\x0b", "\x00", "\u200b", "\u200d", "\ufe0f",
    "👩‍👩‍👧", "1️⃣", "می‌خواهم", "שלום", "e\u0301", "Ã©", "<b>", "</b>", "<br/>", "<!--", "-->", "<script>", "&amp;",
    "&#38;",
    "amp;", "**", "# ", "> ", "---", "](http://x)", "```", "1/2/2024", "Dec. 8, '24", "8 Dec 2024", "3 de mayo de ",
    "Sept. ", "OCGA ", "Ga. Code Ann. ", "Sec. ", "42 USC ", "29 CFR ", "ICD10: ", "Case No. ", "21-cv-123", "1,200.50",
    " dollars", "5 kgs.", "8 percent", "All rights reserved.",
    "x<", "<a ", "<a x=1 ", "<a x='", "<<b>b>", "&#", "*a", "**a", "_a ", "[a", "![a](", "# A\n", " \n", "\n ",
    "1 ", "1,", "1,111", "1/", "1/1/", "11 de de ", "jan ", "Jan 1 ", "1 jan", "1.", "1-", "34-9-", "O.C.", "G. A. ",
    "(a)", "§ ", "U. S. ", "case no ", "1:21", "$1", "1 USD", "a.", "a. ", "? ", "?", "\x1b[", "\x1b[1;",
    "\U0001f3f4\U000e0061", "é", "e\u0301\u0301", "Ã", "\u200d👩", "a\u200d", "\u202e\u200e", "per cent", "1 per ",
    "&amp", "&AMP;#38;", "``",
]  # fmt: skip


def seconds(work: Callable[[str], object], text: str, limit: float) -> float:
    """The best of three attempts, if the first is above the limit: other work on the machine is not the pattern's."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        work(text)
        best = min(best, time.process_time() - started)
        if best < limit:
            break
    return best


def hostile(size: int) -> Iterator[str]:
    for unit in HOSTILE:
        yield unit * (size // len(unit))
        yield "1" + unit * (size // len(unit)) + "!"


@pytest.mark.parametrize("name", sorted(patterns()))
def test_every_pattern_is_quick_on_hostile_text(name: str) -> None:
    """10 kB in 100 ms: a square takes as many steps as this allows, and at 100 kB (below) a hundred times more."""
    for text in hostile(10_000):
        assert seconds(lambda text: list(patterns()[name].finditer(text)), text, 0.1) < 0.1, text[:20]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(patterns()))
def test_every_pattern_takes_linear_time(name: str) -> None:
    """100 kB in half a second, allowing for a busy machine."""
    pattern = patterns()[name]
    for text in hostile(100_000):
        assert seconds(lambda text: sum(1 for _ in pattern.finditer(text)), text, 0.5) < 0.5, text[:20]


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_every_cleaner_takes_linear_time(name: str) -> None:
    """Ten times the text in at most thirty times the time; what is quick anyway may take what it takes."""
    for short, long in zip(hostile(10_000), hostile(100_000)):
        if (took := seconds(cleaner(name).edits, long, 1.0)) > 1.0:
            assert took < 30 * seconds(cleaner(name).edits, short, 0.0), long[:20]
