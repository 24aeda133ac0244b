"""The data desk on a large file beside the same job written by hand with `datasets` and datasketch.

    python benchmarks/desk.py [--rows 1000000] [--by-hand-rows 100000] [--folder /tmp]

Makes about 600 bytes a row with planted exact and near duplicates, so that it is known what there is to find. Then,
each in a fresh process and in turn: attune (read, split, clean, exact and near duplicates, written with its ledger) and
the hand-written job, on the first --by-hand-rows of the same file, beside attune on the same rows. Prints one line of
JSON: seconds, peak memory, and how many of the planted copies stayed beside their original.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXACT, NEAR = 0.05, 0.05
"""Share of the rows that are copies of an earlier row."""
CHANGED_WORDS = 2
"""Of about 70 words; the word 3-shingles of such a pair have a Jaccard similarity of 0.8 or more."""


def write(path: Path, rows: int) -> dict[str, int]:
    """Labelled notes as JSON lines. `kind` says what a row is and `of` what it copies; neither is compared."""
    draw = random.Random(11)
    starts = (
        "ab ac ad al am an ar ba be bo br ca ce co da de do en er fa fe fo ga go ha he in ja ka la le lo ma me".split()
    )
    ends = "ing tion er ly ment ness al ed s age ure ive ist ary dom ful".split()
    words = [f"{a}{b}{c}" for a in starts for b in starts[::3] for c in ends]
    kept: list[tuple[str, str]] = []  # a sample of earlier rows that copies are drawn from
    counts = {"exact": 0, "near": 0}
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            chance = draw.random()
            kind = "exact" if chance < EXACT else "near" if chance < EXACT + NEAR else "new"
            if kind == "new" or len(kept) < 100:
                kind, text = "new", " ".join(draw.choices(words, k=draw.randint(58, 80)))
                text = text.replace(" ", "  ", 1) if number % 3 == 0 else text
                of = ""
                if len(kept) < 50_000:
                    kept.append((f"r{number}", text))
                elif draw.random() < 0.1:
                    kept[draw.randrange(50_000)] = f"r{number}", text
            else:
                of, text = draw.choice(kept)
                if kind == "near":
                    parts = text.split()
                    for place in draw.sample(range(len(parts)), CHANGED_WORDS):
                        parts[place] = draw.choice(words) + "x"
                    text = " ".join(parts)
                counts[kind] += 1
            row = {
                "id": f"r{number}",
                "text": text,
                "label": f"class {int(of[1:] or number) % 12}",
                "kind": kind,
                "of": of,
            }
            file.write(json.dumps(row) + "\n")
    return counts


ATTUNE = """
import json, resource, sys, time
from pathlib import Path
from collections import Counter
from types import SimpleNamespace
from attune.data.desk import Desk, make_steps
from attune.data.sources import spool_records
from attune.data.split import split
from attune.data.steps import Context
from attune import plugins

start = last = time.perf_counter()
source, folder, cleaners = sys.argv[1], Path(sys.argv[2]), sys.argv[3].split(",")
say = lambda line: print(f"  {time.perf_counter() - start:6.1f} s  {line}", file=sys.stderr, flush=True)
parts = {}
def took(name):
    global last
    now = time.perf_counter()
    parts[name] = round(now - last, 1)
    last = now
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    say(f"{name} done, peak {peak} MiB")
read = spool_records(source, folder / "read.jsonl", target="label", say=say)
took("read")
divided = split(read.records, validation=0.05, test=0.05, say=say, ledger=folder / "split.jsonl")
took("split")
names = [name for name in cleaners if name in plugins.names("step")] + ["exact_duplicates", "near_duplicates"]
choices = [SimpleNamespace(name=name, options=plugins.get("step", name).Config()) for name in names]
desk = Desk(make_steps(choices, Context(seed=0)), folder / "prepared", say=say)
done = desk.run({"train": divided.train, "validation": divided.validation, "test": divided.test})
took("desk")
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
# Of each planted copy that went to training: did it or its original go?
left = {record.id for record in done["train"]}
before = {record.id for record in divided.train}
planted, missed = Counter(), Counter()
for record in divided.train:
    if record.meta.get("of") in before:
        planted[record.meta["kind"]] += 1
        missed[record.meta["kind"]] += record.id in left and record.meta.get("of") in left
print(json.dumps({
    "steps": names, "seconds": round(seconds, 1), "cpu_seconds": round(time.process_time(), 1), "parts": parts,
    "peak_rss_mib": peak >> 20,
    "rows": {name: len(part) for name, part in done.items()}, "excluded_by_split": len(divided.excluded),
    "planted_in_train": dict(sorted(planted.items())),
    "planted_missed": dict(sorted(missed.items())),
    "rows_left_out_by_steps": {fact["step"]: fact["counts"].get("drop", 0) for fact in desk.facts},
    "rows_in_train_before": len(divided.train),
}))
"""

BY_HAND = """
import json, re, resource, sys, time, hashlib, random
from datasets import disable_progress_bars, load_dataset
from datasketch import MinHash, MinHashLSH

start = time.perf_counter()
disable_progress_bars()
source, folder = sys.argv[1], sys.argv[2]
data = load_dataset("json", data_files=source, split="train", cache_dir=folder + "/cache")
data = data.map(lambda row: {"text": re.sub(r"[ \\t]+", " ", row["text"]).strip()})
seen = set()
def first(row):
    key = hashlib.md5(row["text"].encode()).digest()
    if key in seen:
        return False
    seen.add(key)
    return True
exact = data.filter(first)
lsh = MinHashLSH(threshold=0.8, num_perm=128)
signatures = {}
def shingles(text):
    words = text.lower().split()
    return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
keep = []
pairs = 0
for number, text in enumerate(exact["text"]):
    signature = MinHash(num_perm=128)
    signature.update_batch([one.encode() for one in shingles(text)])
    mine = None
    for other in lsh.query(signature):
        theirs = shingles(exact[int(other)]["text"])
        mine = mine or shingles(text)
        if len(mine & theirs) >= 0.8 * len(mine | theirs):
            pairs += 1
            break
    else:
        keep.append(number)
        lsh.insert(str(number), signature)
unique = exact.select(keep)
parts = unique.train_test_split(test_size=0.1, seed=0)
parts["train"].to_json(folder + "/train.jsonl")
parts["test"].to_json(folder + "/test.jsonl")
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
cpu = round(time.process_time(), 1)
print(json.dumps({"seconds": round(seconds, 1), "cpu_seconds": cpu, "peak_rss_mib": peak >> 20, "rows": len(data),
    "exact_removed": len(data) - len(exact), "near_removed": pairs}))
"""


def run(code: str, *arguments: str) -> dict:
    done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--by-hand-rows", type=int, default=100_000, help="0 leaves the hand-written job out")
    parser.add_argument("--clean", default="whitespace,unicode", help="cleaning steps, those that there are")
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary folder is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        source = folder / "rows.jsonl"
        planted = write(source, options.rows)
        figures: dict = {"rows": options.rows, "input_mib": source.stat().st_size >> 20, "planted": planted}
        figures["attune"] = run(ATTUNE, str(source), str(folder / "out"), options.clean)
        if options.by_hand_rows:
            part = folder / "part.jsonl"
            with open(source, encoding="utf-8") as rows, open(part, "w", encoding="utf-8") as out:
                out.writelines(line for number, line in enumerate(rows) if number < options.by_hand_rows)
            start = time.perf_counter()
            small = run(ATTUNE, str(part), str(folder / "small"), options.clean)
            figures["attune_same_rows"] = {**small, "with_start_seconds": round(time.perf_counter() - start, 1)}
            start = time.perf_counter()
            hand = run(BY_HAND, str(part), name)
            figures["by_hand"] = {**hand, "with_start_seconds": round(time.perf_counter() - start, 1)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
