"""Files for recipes/multitask.yaml and recipes/stages.yaml, from the public data sets that docs/curricula.md names.

    python recipes/make_curricula_data.py ../shared curricula-data

reads `data/clinc150`, `data/scitldr`, `data/instructions/dolly_mix.jsonl` and `corpus/part-1.jsonl.zst` below the first
folder; `data/wnut17` is used as it stands.
"""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

CLASSES = 20
"""Intents kept of CLINC150's 150, evenly over its sorted names."""
CHARACTERS = 1200
"""Longest abstract, answer or document."""
QUESTIONS = 6000
"""Medical documents used."""


def main(shared: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    intents(shared / "data" / "clinc150" / "data_full.json", out)
    for part in ("train", "dev", "test"):
        summaries(shared / "data" / "scitldr" / f"{part}.jsonl", out / f"summaries-{part}.jsonl")
    general = [json.loads(line) for line in (shared / "data/instructions/dolly_mix.jsonl").open(encoding="utf-8")]
    short = [row for row in general if len(row["instruction"]) + len(row["response"]) <= CHARACTERS]
    parts("general", ({"prompt": row["instruction"], "completion": row["response"]} for row in short), out)
    medical(shared / "corpus" / "part-1.jsonl.zst", out)


def intents(path: Path, out: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    names = sorted({label for _, label in data["train"]})
    kept = set(names[:: len(names) // CLASSES][:CLASSES])
    for part in ("train", "val", "test"):
        with (out / f"intents-{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *(row for row in data[part] if row[1] in kept)])


def summaries(path: Path, out: Path) -> None:
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    write(out, ({"prompt": " ".join(row["source"])[:CHARACTERS], "completion": row["target"][0]} for row in rows))


def medical(path: Path, out: Path) -> None:
    """Documents as text, and the questions about symptoms with their answers; no text of one is in the other."""
    texts, narrow = [], []
    done = subprocess.run(["zstd", "-dc", str(path)], stdout=subprocess.PIPE, check=True)
    for line in done.stdout.decode("utf-8").splitlines():
        row = json.loads(line)
        if row["source"] != "medquad":
            continue
        question, _, answer = row["text"].partition("\n\n")
        answer = answer.removeprefix(question).strip()
        if question.startswith("What are the symptoms of") and 40 <= len(answer) <= CHARACTERS:
            narrow.append({"prompt": question, "completion": answer})
        elif len(row["text"]) <= CHARACTERS:
            texts.append({"text": row["text"]})
        if len(texts) + len(narrow) == QUESTIONS:
            break
    parts("medical", texts, out)
    parts("symptoms", narrow, out)


def parts(name: str, rows: Iterable[dict[str, str]], out: Path) -> None:
    """A tenth for tests, chosen by a hash of the text, so that no row moves when others are added."""
    held: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for row in rows:
        held[hashlib.sha256(next(iter(row.values())).encode()).digest()[0] < 26].append(row)
    write(out / f"{name}-test.jsonl", held[True])
    write(out / f"{name}-train.jsonl", held[False])


def write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
