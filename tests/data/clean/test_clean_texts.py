"""Whitespace, Unicode, control characters and markup: what each of them changes, and what it says about it."""

import pytest

from attune import plugins
from attune.data.steps import Context, TextStep, apply_edits


def cleaned(name: str, text: str, task: str = "classification", **options: object) -> str:
    plugin = plugins.get("step", name)
    step: TextStep = plugin(plugin.Config(**options), Context(task=task))  # type: ignore[attr-defined]
    return apply_edits(text, step.edits(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a\u00a0 b\t\tc  ", "a b c"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("a \n\n\n\n  b", "a\n\nb"),
        ("a\u3000b\u2009c", "a b c"),
        ("\n\n a", "a"),
        (" \n ", ""),
        ("a\n  b", "a\nb"),
    ],
)
def test_whitespace(text: str, expected: str) -> None:
    assert cleaned("whitespace", text) == expected


def test_indentation_stays_where_text_is_written_or_asked_for() -> None:
    code = "def f():\n    return  1\n\n\n\n\tx"
    assert cleaned("whitespace", code, "generation") == "def f():\n    return 1\n\n\tx"
    assert cleaned("whitespace", code, indentation=True) == "def f():\n    return 1\n\n\tx"
    assert cleaned("whitespace", code, "generation", indentation=False) == "def f():\nreturn 1\n\nx"
    assert cleaned("whitespace", code, blank_lines=0) == "def f():\nreturn 1\nx"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafÃ© â€œhiâ€\x9d", "café “hi”"),
        ("e\u0301 and \u212b", "é and Å"),
        ("Ã  la carte", "à la carte"),
        ("“curly” ﬁne &amp; Ｗｉｄｅ x²", "“curly” ﬁne &amp; Ｗｉｄｅ x²"),
    ],
)
def test_unicode(text: str, expected: str) -> None:
    assert cleaned("unicode", text) == expected


def test_unicode_options() -> None:
    assert cleaned("unicode", "ﬁne Ｗｉｄｅ", form="NFKC") == "fine Wide"
    assert cleaned("unicode", "cafÃ© e\u0301", mojibake=False) == "cafÃ© é"
    assert cleaned("unicode", "cafÃ© e\u0301", form="none") == "café e\u0301"


def test_unicode_edits_are_as_small_as_the_change() -> None:
    step = plugins.get("step", "unicode")()
    text = " ".join(f"word{number}" for number in range(2000)) + " cafÃ© " + "end " * 2000
    (edit,) = step.edits(text)
    assert (text[edit.start : edit.end], edit.new) == ("Ã©", "é") and edit.reason == "wrong encoding"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffa\u200bb\u2060c\u00add", "abcd"),
        ("x\x00\x07y\x1b[31mred\x1b[0m\x9f", "xyred"),
        ("one\x0ctwo", "one\ntwo"),
        ("a\tb\nc", "a\tb\nc"),
        ("pay \u202eevil\u202c now", "pay evil now"),
        ("a\u200fb, שלום\u200f!", "a\u200fb, שלום\u200f!"),
        ("left\u200e only", "left only"),
        ("a\u200db\u200c c\ufe0f", "ab c"),
        ("hi\U000e0068\U000e0069", "hi"),  # hidden text in tag characters
        ("👍🏽\u200d x", "👍🏽 x"),
    ],
)
def test_control_characters(text: str, expected: str) -> None:
    assert cleaned("control_characters", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi<br>there<BR/>you", "Hi\nthere\nyou"),
        ("<p>One</p><p>Two</p>", "One\n\nTwo"),
        ("<div class='x'><b>bold</b> <a href=\"http://x.y\">link</a></div>", "bold link"),
        ("a<!-- hidden -->b <!-- open", "ab <!-- open"),
        ("<script>if (a<b) alert('x')</script>z<style>p{}</style>", "z"),
        ("Hollis &amp; Sons&nbsp;Ltd &lt;3 &#233; &eacute;", "Hollis & Sons Ltd <3 é é"),
        ("&amp;amp;amp;nbsp;x", " x"),
        ("&lt;b&gt;x&lt;/b&gt;", "x"),
        ("&nosuchthing; &#0; AT&T", "&nosuchthing; &#0; AT&T"),
        ("`<b>` and ```\n<p>code</p>\n``` but <b>this</b>", "`<b>` and ```\n<p>code</p>\n``` but this"),
        ("<td>1</td><td>2</td>", "1  2"),
        ("<img src=x.png> <input disabled>", ""),
    ],
)
def test_html(text: str, expected: str) -> None:
    assert cleaned("markup", text).strip(" ") == expected.strip(" ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**Very** *good* ~~not~~ __two words__ _and more_", "Very good not two words and more"),
        ("# Title\n\nText", "Title\n\nText"),
        ("See [the page](https://x.y/z) and ![a cat](/cat.png)", "See the page and a cat"),
        ("> Quoted\nreply", "Quoted\nreply"),
        ("a\n---\nb", "a\n\nb"),
        ("**a *b* c**", "a b c"),
        ("price* and fee*, 5*3*2, *p = *q, f[i](x)", "price* and fee*, 5*3*2, *p = *q, f[i](x)"),
        ("# a comment in code\nx = 1", "# a comment in code\nx = 1"),
        ("`**kept**`", "`**kept**`"),
    ],
)
def test_markdown(text: str, expected: str) -> None:
    assert cleaned("markup", text) == expected
    assert cleaned("markup", text, "generation") == text  # answers may be written in it


def test_markup_options() -> None:
    assert cleaned("markup", "<b>x</b> **y**", html=False) == "<b>x</b> y"
    assert cleaned("markup", "<b>x</b> **y**", markdown=False) == "x **y**"
    assert cleaned("markup", "**y**", "generation", markdown=True) == "y"


def test_a_text_nested_to_no_end_stays() -> None:
    text = "<" * 50 + "em>" * 50
    assert cleaned("markup", text) == text
