"""What every cleaner owes: clean once is clean for good, edits that say why, and spans that stay on their words."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attune import plugins
from attune.data.steps import Context, TextStep, apply_edits, move_spans
from attune.records import Message, Record, Span

TEXTS = [
    "control_characters", "unicode", "markup", "whitespace", "boilerplate", "dates", "citations", "numbers",
]  # fmt: skip

PIECES = [
    *"abcXYZ019 \t\n\r.,;:/-–'’\"()[]<>&#*_~`$€%|@!?",
    "\r\n", "\u00a0", "\u2028", "\x0b", "\x0c", "\x00", "\x1b[31m", "\u200b", "\u200c", "\u200d", "\ufe0f", "\ufeff",
    "\u00ad", "\u202e", "\u2066", "\u200f", "\U000e0061", "👩‍👩‍👧", "❤️", "1️⃣", "👍🏽", "می‌خواهم", "क्‍ष", "שלום",
    "e\u0301",
    "Ã©", "â€œ", "ﬁ", "<b>", "</b>", "<p>", "</p>", "<br/>", "<!--", "-->", "<script>", "</script>", "<a href='x'>",
    "&amp;", "&lt;", "&nbsp;", "&#38;", "&#x26;", "amp;", "lt;", "**", "__", "# ", "> ", "---", "](http://x)", "```",
    "1/2/2024", "13/2/24", "2024/01/02", "Dec. 8, '24", "8 Dec 2024", "3 de mayo de 2023", "2024-12-08", "31.02.2024",
    "May ", "Sept. ", "OCGA ", "O. C. G. A. §", "34-9-1", "Ga. Code Ann. ", "Sec. ", "42 USC ", "29 CFR ", "1910.134",
    "(a)(1)", "ICD10: ", "m54.5", "Case No. ", "21-cv-123", "1,200", "1,200.50", "USD", " dollars", "5 kgs.", "2 hrs",
    "8 percent", "12 ", "Page 3 of 9", "This is confidential.", "All rights reserved by us.", "\n\n\n",
]  # fmt: skip
WILD = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=25).map("".join)

FOOTER = "This is confidential.\nAll rights reserved by us.\nPage 3 of 9"
SIGNED = [Record(str(number), (Message("user", f"Note {number}. {FOOTER}"),)) for number in range(20)]
SIGNED.append(Record("d", (Message("user", "on 3/14/2024, 3/15/2024, 3/16/2024"),)))


@cache
def cleaner(name: str, task: str = "classification") -> TextStep:
    plugin = plugins.get("step", name)
    options = {"boilerplate": {"min_chars": 5}, "dates": {}, "whitespace": {"indentation": True}}.get(name, {})
    step = plugin(plugin.Config(**options), Context(task=task))  # type: ignore[attr-defined]
    step.learn(SIGNED)
    return step


def cleaned(name: str, text: str) -> str:
    return apply_edits(text, cleaner(name).edits(text))


@pytest.mark.parametrize("name", TEXTS)
@given(text=WILD)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_clean_once_is_clean_for_good(name: str, text: str) -> None:
    """1,600 cases in all; each edit also lies in order, changes something and says why."""
    edits = cleaner(name).edits(text)
    end = 0
    for edit in edits:
        assert end <= edit.start <= edit.end <= len(text) and edit.reason
        assert text[edit.start : edit.end] != edit.new
        end = edit.end
    once = apply_edits(text, edits)
    assert cleaner(name).edits(once) == []


@given(text=WILD)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_all_in_a_row_come_to_rest(text: str) -> None:
    for _ in range(4):  # one cleaner may leave work for another (an entity becomes a blank)
        before = text
        for name in TEXTS:
            text = cleaned(name, text)
    assert text == before


@pytest.mark.parametrize("name", TEXTS)
@given(before=WILD, word=st.sampled_from(["Zurich", "Mary Ann", "shoulder"]), after=WILD)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_span_stays_on_its_words(name: str, before: str, word: str, after: str) -> None:
    text = f"{before} {word} {after}"
    spans = (Span(len(before) + 1, len(before) + 1 + len(word), "X"),)
    edits = cleaner(name).edits(text)
    moved = move_spans(spans, edits)
    touched = any(edit.start < spans[0].end and edit.end > spans[0].start for edit in edits)
    new = apply_edits(text, edits)
    if touched:  # inside a script or a link, say: then it is gone, or still where the text is
        assert all(0 <= span.start < span.end <= len(new) for span in moved)
    else:
        assert [new[span.start : span.end] for span in moved] == [word]


MEANT = [
    "a < b and c > d, 2 * 3 * 4, x = y ** 2",
    "if a<b and c>d: print(List<String>, vec<int>)",
    "snake_case_name, __init__.py, *.tar.gz, f(*args, **kwargs)",
    "Version 1.2.2024 of v10.04.24, build 3.4.2020",
    "192.168.1.12 and 10.0.0.1:8080, ratio 3:4, odds 1/2, score 10/12",
    "404-555-0123, (706) 555-0112, +1 404 555 0123, 555-01-2024",
    "at 12:30:45 on 2024-12-08 and 2024-12-08T10:00:00Z",
    "👩‍👩‍👧 ❤️ 1️⃣ 👍🏽 🏳️‍🌈 👩🏽‍⚕️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "می‌خواهم کتاب‌ها را ببینم",
    "क्‍ष और र्‍य",
    "שלום עולם! مرحبا بالعالم",
    "naïve café Zürich 中文字 日本語 한국어 Ελληνικά",
    "AT&T, R&D, a&b; Q&A",
    "<name> lives at <address>, <time>",
    "C++ and C#, #1 item, @me, 50% off, e.g. this",
    "http://example.com/a_b_c?x=1&y=2#z_w",
]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", MEANT)
def test_text_that_means_what_it_says_stays(name: str, text: str) -> None:
    assert cleaned(name, text) == text


def test_state_restores_the_cleaner() -> None:
    for name in TEXTS:
        step = cleaner(name)
        plugin = type(step)
        again = plugin(step.options, Context())
        again.restore(step.state())
        for piece in ["Hello. This is confidential. Bye.", "on 3/4/2024", "a  b", "<b>x</b>"]:
            assert again.edits(piece) == step.edits(piece)


def test_every_process_cleans_alike() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import json, dataclasses\n"
        "import test_clean_all as t\n"
        "print(json.dumps([[n, [dataclasses.astuple(e) for e in t.cleaner(n).edits(' '.join(t.PIECES))],"
        " t.cleaner(n).facts(), t.cleaner(n).state()] for n in t.TEXTS]))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and len(outputs.pop()) > 1000


def shared() -> Path:
    folder = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).parents[3].parent / "shared")) / "data" / "banking77"
    if not folder.exists():
        pytest.skip("needs the real data in ATTUNE_SHARED: banking77")
    return folder


def test_clean_real_text_is_hardly_touched() -> None:
    """Of 10,003 bank queries only doubled blanks and sums of money change."""
    import csv

    with open(shared() / "train.csv", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    changed = {name: sum(bool(cleaner(name).edits(text)) for text in texts) for name in TEXTS}
    assert changed.pop("whitespace") < 0.05 * len(texts)
    assert changed.pop("numbers") < 0.02 * len(texts)
    assert not any(changed.values()), changed
