"""The report is one file that loads nothing, shows data as text only, and says the same in every form."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from attune import charts, words
from attune.evaluate.report import summary_table, write_report

ATTACK = "</script><img src=x onerror=alert(1)>"
LABELS = [
    "water damage",
    "fire",
    "theft",
    "liability",
    "vehicle collision",
    "storm",
    "glass",
    "travel",
    "legal costs",
    "other",
]
PLAIN = ["accuracy", "f1_macro", "precision_macro", "recall_macro", "ece", "invalid_rate"]


def figures(level: float, dice: random.Random) -> dict[str, Any]:
    found = {}
    for name in PLAIN:
        value = max(0.0, 0.03 + dice.random() / 20 if name in ("ece", "invalid_rate") else level - dice.random() / 40)
        width = 1.96 * math.sqrt(max(value * (1 - value), 0.001) / 812)
        found[name] = {"value": value, "low": value - width, "high": value + width, "n": 812}
    return found


def made(*, labels: list[str] = LABELS, steps: int = 620, attack: str = "", samples: int = 53) -> dict[str, Any]:
    """A realistic evaluation; `attack` is put into every text that comes from outside."""
    dice = random.Random(4)
    systems: list[dict[str, Any]] = []
    for name, level, note, trained in (
        ("tuned", 0.912, "", 388.0),
        ("majority", 0.18, "always water damage: 18.1 % of train", 0.001),
        ("tfidf", 0.861, "C = 8, chosen by 5-fold cross-validation on train", 2.4),
        ("zero_shot", 0.34, "", 0.0),
        ("few_shot", 0.55, "k = 8, nearest by embedding; 3 in the longest prompts", 0.0),
    ):
        versus = {
            "difference": 0.905 - level,
            "low": 0.88 - level,
            "high": 0.93 - level,
            "p": 0.0004 if level < 0.8 else 0.003,
        }
        systems.append(
            {
                "system": name,
                "note": note + attack,
                "seconds": 3.0 + 60 * dice.random(),
                "trained_seconds": trained,
                "metrics": figures(level, dice),
                "clean_metrics": figures(level - 0.01, dice),
                "versus": None if name == "tuned" else versus,
            }
        )
    names = [label + attack for label in labels]
    size, matrix = len(names), []
    for row in range(size):
        counts = [0] * (size + 1)
        for _ in range(12 + 6 * (size - row)):
            counts[row if dice.random() < 0.86 else dice.randrange(size + 1)] += 1
        matrix.append(counts)
    wrong = [(matrix[a][b], a, b) for a in range(size) for b in range(size) if a != b]
    pairs = [
        {"gold": names[a], "said": names[b], "count": count, "of": sum(matrix[a])}
        for count, a, b in sorted(wrong)[::-1][:10]
    ]
    columns = [*names, "(no answer)"]
    confusion = {"labels": names, "columns": columns, "matrix": matrix if size <= 30 else None, "pairs": pairs}
    systems[0]["confusion"] = confusion
    systems[0]["per_class"] = [
        {
            "label": name,
            "support": sum(matrix[row]),
            "predicted": sum(line[row] for line in matrix),
            "precision": 0.8 + dice.random() / 5,
            "recall": matrix[row][row] / sum(matrix[row]),
            "f1": 0.8 + dice.random() / 5,
        }
        for row, name in enumerate(names)
    ]
    bins = [
        {"low": i / 15, "high": (i + 1) / 15, "n": 2 ** (i - 3), "confidence": (i + 0.5) / 15} for i in range(5, 15)
    ]
    systems[0]["calibration"] = [{**one, "accuracy": one["confidence"] - 0.05} for one in bins]
    systems[2]["calibration"] = [{**one, "accuracy": min(1.0, one["confidence"] + 0.12)} for one in bins]
    curves: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        row: dict[str, Any] = {
            "step": step,
            "loss": 2.2 * math.exp(-step / 120) + 0.12 + 0.25 * dice.random(),
            "learning_rate": 2e-4 * min(1, step / 20) * (1 + math.cos(math.pi * step / steps)) / 2,
            "grad_norm": 0.6 + dice.random() ** 4 * 3,
            "tokens_per_second": 3200 + 300 * dice.random(),
            "memory_gib": 1.9,
        }
        if step % 60 == 0:
            row |= {"validation/loss": 0.42 + 1.5 * math.exp(-step / 130) + max(0, step - 400) / 2500}
            row |= {"validation/f1_macro": 0.9 - 0.8 * math.exp(-step / 110)}
        curves.append(row)
    texts = ("A pipe burst on the second floor on 2024-03-07 and the parquet is ruined. ", "The bicycle was taken. ")
    rows = []
    for number in range(samples):
        label, base, tuned = (dice.choice(names) for _ in range(3))
        tuned = label if dice.random() < 0.85 else tuned
        rows.append(
            {
                "id": f"{number:04x}",
                "where": f"claims.csv:{number + 2}",
                "prompt": dice.choice(texts) * dice.choice([1, 1, 2, 9]) + attack,
                "reference": label,
                "base": None if number % 7 == 0 else base,
                "tuned": tuned,
                "correct": tuned == label,
                "base_correct": base == label,
                "changed": base != tuned,
            }
        )
    return {
        "run": "claims-lora-7" + attack,
        "created": "2025-11-21T10:24:00Z",
        "task": "classification",
        "base": "starter" + attack,
        "method": {
            "adapter": "lora",
            "objective": "classify",
            "trainable_parameters": 294912,
            "all_parameters": 25401344,
        },
        "verdict": {
            "word": "better",
            "sentence": "Better than the best baseline, tfidf: +0.044 f1_macro, 95 % interval 0.019 to 0.069, p 0.003."
            + attack,
            "evidence": ["f1_macro 0.905 (95 % interval 0.882 to 0.924, 812 rows)", "validation loss fell" + attack],
            "ship": True,
        },
        "primary": "f1_macro",
        "higher_is_better": {name: name not in ("ece", "invalid_rate") for name in PLAIN},
        "metrics": {f"test/{name}": figure for name, figure in systems[0]["metrics"].items()},
        "systems": systems,
        "curves": curves,
        "best_step": steps // 60 * 60 - 180 if steps >= 240 else None,
        "samples": rows,
        "data": {
            "sources": [{"path": "claims.csv" + attack, "sha256": "9f2c" * 16, "rows": 4120, "licence": "CC BY 4.0"}],
            "counts": {"read": 4120, "kept": 4061},
            "drops": {"exact duplicate" + attack: 41, "empty text": 18},
            "leakage": "No test row stands in train; 12 near duplicates of test rows were left out of train." + attack,
        },
        "splits": {"train": 2842, "validation": 407, "test": 812},
        "preflight": {"supervised_tokens": 2842, "all_tokens": 190214, "truncated": 7, "examples": 2842},
        "recipe": "name: claims-lora\nmodel: {base: starter}\nadapter: {type: lora, r: 16}  # " + attack,
        "environment": {
            "versions": {"torch": "2.13.0", "peft": "0.21.2"},
            "cores": 2,
            "command": ["attune", "train" + attack],
        },
        "cost": {"training seconds": 388.0, "evaluation seconds": 122.5, "tokens seen": 1_902_140},
        "plan": [{"what": "training time" + attack, "planned": "6.1 min (5.4 to 7.0)", "actual": "6.5 min"}],
        "next": ["attune serve runs/claims-lora-7", "attune export runs/claims-lora-7" + attack],
    }


class Page(HTMLParser):
    """Tags with their attributes, in order, and the rows of tables as text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.inside = True
        if tag == "span" and self.inside:
            self.rows[-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def written(tmp_path: Path, **options: Any) -> tuple[str, str]:
    write_report(made(**options), tmp_path)  # type: ignore[arg-type]
    return (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()


def test_the_page_is_one_file_and_asks_for_nothing(tmp_path: Path) -> None:
    page, _ = written(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]
    assert not re.findall(r"https?://|url\(|@import|//[a-z]", page)
    for tag, attributes in Page(page).tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form"), tag
        assert not {"src", "srcset", "style", "action"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")


def test_the_policy_allows_exactly_this_style_and_script(tmp_path: Path) -> None:
    page, _ = written(tmp_path)
    policy = next(
        attributes["content"] or "" for tag, attributes in Page(page).tags if tag == "meta" and "content" in attributes
    )
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S).group(1)  # type: ignore[union-attr]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy


def test_data_never_becomes_markup(tmp_path: Path) -> None:
    plain = Page(written(tmp_path, attack=" harmless")[0])
    page, text = written(tmp_path, attack=ATTACK)
    attacked = Page(page)
    assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in plain.tags]
    assert "<img" not in page and page.count("</script>") == 2
    assert not re.search(r"(?<!\\)<img", text.split("## Recipe")[0]) and "\\<img" in text
    stored = re.search(r'id="samples-data">(.*?)</script>', page, re.S).group(1)  # type: ignore[union-attr]
    assert json.loads(stored) == made(attack=ATTACK)["samples"]


def test_page_and_markdown_say_the_same(tmp_path: Path) -> None:
    page, text = written(tmp_path)
    rows = [[cell.strip() for cell in row] for row in Page(page).rows]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [
        [html.unescape(re.sub(r"\\(.)", r"\1", cell)).strip() for cell in line[2:-2].split(" | ")] for line in lines
    ]

    def numbers(row: list[str]) -> list[str]:
        return re.findall(r"[\d.,\N{MINUS SIGN}]*\d", " ".join(row))

    start = next(at for at, row in enumerate(cells) if row[:3] == ["system", "accuracy", "f1_macro"])
    for offset, name in enumerate(["tuned", "majority", "tfidf", "zero_shot", "few_shot"]):
        in_page = next(row for row in rows if row[:1] == [name])
        assert cells[start + 2 + offset][0] == name
        assert numbers(in_page[1:]) == numbers(cells[start + 2 + offset][1:]) and len(numbers(in_page)) > 15
    for row in rows:  # per class: every line of the page stands in the Markdown
        if row[:1] and row[0] in LABELS and len(row) == 6:
            assert row in cells
    for system in made()["systems"][1:]:
        assert words.versus(system["versus"]) in html.unescape(page) and words.versus(system["versus"]) in text.replace(
            "\\<", "<"
        )


def test_numbers_are_those_of_the_results(tmp_path: Path) -> None:
    page, _ = written(tmp_path)
    for system in made()["systems"]:
        row = next(row for row in Page(page).rows if row[:1] == [system["system"]])
        for cell, figure in zip(row[1:], system["metrics"].values(), strict=False):
            assert cell.split()[0] == f"{figure['value']:.3f}"
            assert cell.split()[1::2] == [
                f"{figure['low']:.3f}".replace("-", "\N{MINUS SIGN}"),
                f"{figure['high']:.3f}",
            ]


@pytest.mark.parametrize("size", [2, 30, 77])
def test_any_number_of_labels(tmp_path: Path, size: int) -> None:
    page, text = written(tmp_path, labels=[f"label_{number}" for number in range(size)])
    assert ('<table class="matrix' in page) == (size <= 30)
    assert "Most confused by the tuned model" in page and "## Most confused" in text


def test_a_bare_run_still_has_a_report(tmp_path: Path) -> None:
    results = made()
    results |= {
        "systems": [{"system": "tuned", "metrics": {"f1_macro": {"value": None, "low": None, "high": None, "n": 0}}}]
    }
    results |= {"curves": [{"step": 1, "loss": "nan"}], "samples": [], "plan": None, "next": [], "best_step": None}
    results["preflight"], results["metrics"] = None, {}
    results["data"] = {"sources": [], "counts": {}, "drops": {}, "leakage": "Not checked."}
    write_report(results, tmp_path)  # type: ignore[arg-type]
    page = (tmp_path / "report.html").read_text()
    assert 'id="curves"' not in page and 'id="samples"' not in page and "Not checked." in page
    assert "Results on the validation rows" in page and "which flatters the tuned model" in page


def test_text_that_is_not_unicode_can_be_written(tmp_path: Path) -> None:
    results = made()
    results["samples"][0]["prompt"] = results["run"] = "half \ud800 a character"
    write_report(results, tmp_path)  # type: ignore[arg-type]
    assert "half \ufffd a character" in (tmp_path / "report.md").read_text()


def test_terminal_table_has_every_system_and_reads_no_markup() -> None:
    from rich.console import Console

    results = made()
    results["systems"][1]["system"] = "[red]majority[/red]"
    console = Console(width=120, record=True, file=open("/dev/null", "w"))
    console.print(summary_table(results))  # type: ignore[arg-type]
    text = console.export_text()
    assert "[red]majority[/red]" in text and "+0.044 (0.019 to 0.069), p 0.003" in text


def test_numbers_in_words() -> None:
    assert [words.number(value) for value in (0.8714, 34.119, 1204.49, -0.5, None, math.nan, 2e-5, 0)] == [
        "0.871", "34.12", "1,204.5", "\N{MINUS SIGN}0.500", "\N{EN DASH}", "\N{EN DASH}", "2.0e-05", "0.000",
    ]  # fmt: skip
    assert words.signed(0.05) == "+0.050" and words.p_value(0.0001) == "< 0.001"
    durations = [words.seconds(value) for value in (0.001, 0.4, 45, 388, 9000)]
    assert durations == ["< 0.01 s", "0.40 s", "45 s", "6.5 min", "2.5 h"]
    assert words.moment("2025-11-21T10:24:00Z") == "2025-11-21 10:24 UTC" and words.moment("today") == "today"


def test_ticks_are_round_and_inside() -> None:
    assert charts.ticks(0.13, 0.91) == [0.2, 0.4, 0.6, 0.8]
    for seed in range(200):
        dice = random.Random(seed)
        low = dice.uniform(-5, 5) * 10 ** dice.randint(-6, 6)
        high = low + dice.uniform(0.1, 5) * 10 ** dice.randint(-6, 6)
        found = charts.ticks(low, high)
        edge = (high - low) * 1e-6
        assert 1 <= len(found) <= 6 and all(low - edge <= tick <= high + edge for tick in found), (low, high, found)


def test_a_spike_survives_thinning() -> None:
    points = [(float(step), 100.0 if step == 3333 else 1.0) for step in range(10_000)]
    svg = charts.lines([charts.Line("loss", points)], title="Loss")
    heights = [float(pair.split(",")[1]) for pair in re.search(r'points="([^"]*)"', svg).group(1).split()]  # type: ignore[union-attr]
    assert len(heights) < 1000 and min(heights) < 40


@pytest.mark.slow
def test_a_browser_draws_it_without_complaint(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    write_report(made(attack=ATTACK), tmp_path)  # type: ignore[arg-type]
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command += ["--enable-logging=stderr", f"--user-data-dir={tmp_path}/profile", (tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.count('class="sample"') == 20
    assert "CONSOLE" not in done.stderr, done.stderr  # neither a script error nor a violated policy
    assert "<img" not in done.stdout.replace("&lt;img", "")
