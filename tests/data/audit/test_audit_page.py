"""The audit page is one file that loads nothing and shows data as text only; the JSON is the same every time."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from attune import charts
from attune.data.audit import audit, write_page
from attune.data.sources import load_records
from attune.data.split import split
from attune.records import Completion, Message, Record, Span

ATTACK = "</style><script>alert(1)</script><img src=x onerror=alert(1)>"
ROOT = Path(__file__).parents[3]


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def record(number: int, text: str, label: Any, **meta: Any) -> Record:
    return Record(f"r{number}{meta.get('attack', '')}", (Message("user", text),), label=label, meta=meta)


def made(attack: str = "") -> tuple[dict[str, list[Record]], list[dict[str, Any]], dict[str, Any]]:
    """Data that fills every section, with `attack` in every text that comes from outside."""
    words = ["the woman lost her card", "a man sent the transfer", "who blocked the account", "the rate is wrong"]
    train = [
        record(row, f"{words[row % 4]} on day {row} {attack}", f"label_{row % 4}{attack}", attack=attack, col=attack)
        for row in range(200)
    ]
    train += [record(900, train[0].text, f"label_1{attack}"), record(901, attack, f"label_2{attack}")]
    train += [record(902, "n/a", f"label_1{attack}"), record(903, train[4].text, f"label_3{attack}")]
    test = [record(row, f"{words[row % 4]} at night {row} {attack}", f"label_{row % 4}{attack}") for row in range(40)]
    facts = [
        {"step": f"dates{attack}", "counts": {"edit": 3}, "found": {attack: 2}, "questions": [f"which? {attack}"]},
        {"step": "pii", "counts": {"edit": 1}, "privacy": {"kinds": {f"email{attack}": 1}}},
    ]
    source = {"path": f"a.csv{attack}", "rows": 204, "licence": f"MIT{attack}", "sha256": f"ab{attack}"}
    manifest = {
        "sources": [source],
        "excluded": {f"near{attack}": 2},
        "split": {"summary": f"divided {attack}", "warnings": [f"look {attack}"]},
    }
    return {"train": train, "test": test}, facts, manifest


def page_of(folder: Path, attack: str = "") -> str:
    parts, facts, manifest = made(attack)
    write_page(audit(parts, "classification", ledger_facts=facts, manifest=manifest), folder)
    return (folder / "audit.html").read_text(encoding="utf-8")


def test_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.html", "audit.json"]
    assert not re.findall(r"https?://|url\(|@import|//[a-z]", page)
    for tag, attributes in Page(page).tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form", "script"), tag
        assert not {"src", "srcset", "style", "action"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")


def test_the_policy_allows_exactly_this_style(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    policy = next(a["content"] or "" for tag, a in Page(page).tags if tag == "meta" and "content" in a)
    style = re.search(r"<style>(.*?)</style>", page, re.S).group(1)  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_data_never_becomes_markup(tmp_path: Path) -> None:
    page = page_of(tmp_path, ATTACK)
    assert "<script" not in page and "<img" not in page and page.count("</style>") == 1
    assert page.count("&lt;script&gt;") > 20


def test_every_link_has_its_section(tmp_path: Path) -> None:
    tags = Page(page_of(tmp_path)).tags
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    links = {(attributes["href"] or "")[1:] for _, attributes in tags if "href" in attributes}
    assert links <= ids and len(links) == 11


def test_json_holds_the_result_and_odd_characters_can_be_written(tmp_path: Path) -> None:
    parts = {"train": [record(row, f"lone \ud800 surrogate {row} \u202e\u200d", "a\ud800" if row % 2 else "b") for row in range(40)]}  # fmt: skip  # noqa: E501
    result = audit(parts, "classification")
    write_page(result, tmp_path)
    stored = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert stored["rows"] == {"train": 40} and "a\ufffd" in {
        row["label"] for row in stored["sections"]["balance"]["classes"]
    }


@pytest.mark.parametrize("task", ["generation", "text", "tagging", "regression", "multilabel"])
def test_a_page_for_every_task(task: str, tmp_path: Path) -> None:
    labels: dict[str, Any] = {"tagging": (Span(0, 3, "X"),), "regression": 1.5, "multilabel": ("a", "b")}
    answer = (Completion((Message("assistant", "an answer of some words"),)),) if task in ("generation", "text") else ()
    records = [
        Record(f"r{row}", (Message("user", f"some words of text {row}"),), answer, labels.get(task))
        for row in range(30)
    ]
    result = audit({"train": records, "validation": records[:3], "test": records[:25]}, task)
    write_page(result, tmp_path)
    assert "Data audit" in (tmp_path / "audit.html").read_text()
    write_page(audit({"train": records[:1]}, task), tmp_path)


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1]); from test_audit_page import page_of\n"
        "page_of(Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        folder = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent), str(folder)], check=True, env=environment, cwd=ROOT
        )
    for name in ("audit.html", "audit.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.slow
def test_example_claims(tmp_path: Path) -> None:
    folder = ROOT / "examples" / "claims"
    train, test = (
        load_records(folder / f"{name}.csv", target="claim_type", columns={"text": "note"}).records
        for name in ("train", "test")
    )
    parts = split(train, given_test=test)
    result = audit({"train": parts.train, "validation": parts.validation, "test": parts.test}, "classification")
    found = result["sections"]
    assert len(found["balance"]["classes"]) == 5 and 4.5 < found["balance"]["imbalance_ratio"] < 5.5
    assert found["duplicates"]["near"]["copies"] > 100
    assert {row["group"] for row in found["groups"]["groups"]} >= {"female", "male", "60 and over", "mobility"}
    write_page(result, tmp_path)


def test_a_histogram_has_a_bar_for_each_bin() -> None:
    svg = charts.bars([3, 0, 5], 10, title="<T>", unit="words", marks=[20, 400])
    assert svg.count("<rect") == 3 and svg.count('class="mark"') == 1 and "&lt;T&gt;" in svg
    assert charts.bars([], 1, title="", unit="") == ""
    assert 'width="45.0"' in charts.share(0.5)
