"""Records on disk are divided and prepared as records in memory are, and a million of them fit."""

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from attune.data import minhash
from attune.data.dedupe import duplicate_clusters
from attune.data.desk import Desk
from attune.data.sources import load_records, spool_records
from attune.data.split import split
from attune.data.spool import Chosen, Joined, Spool, Texts, spooled, told
from attune.errors import DataError
from attune.records import Completion, Message, Record

WORDS = "card bank transfer fee limit refund branch order parcel invoice salary rent pension travel".split()


def sentence(seed: int, words: int = 30) -> str:
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)}{draw.randrange(300)}" for _ in range(words))


def records(count: int, prefix: str = "r") -> list[Record]:
    """Labelled rows; every fifth copies another, every seventh contradicts one, groups of three."""
    found = []
    for i in range(count):
        of = i - 3 if i % 5 == 0 and i > 5 else i
        text = sentence(of) + (" once" if i % 10 == 0 else "")
        label = "ab"[of % 2] if i % 7 else "c"
        meta = {"patient": f"p{of // 3}"} if i % 4 == 0 else {}
        found.append(Record(f"{prefix}{i}", (Message("user", text),), label=label, meta=meta, where=f"f.csv:{i}"))
    return found


def ids(rows: object) -> list[str]:
    return [one.id for one in rows]  # type: ignore[attr-defined]


def test_reading_to_disk_gives_the_same_records(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": sentence(i), "label": "ab"[i % 2], "n": i}) + "\n" for i in range(200)))
    said: list[str] = []
    loaded, on_disk = load_records(path), spool_records(path, tmp_path / "s" / "rows.jsonl", say=said.append)
    assert list(on_disk.records) == loaded.records
    assert (on_disk.task, on_disk.counts, on_disk.why) == (loaded.task, loaded.counts, loaded.why)
    assert list(Spool(on_disk.records.path)) == loaded.records and said == []


def test_a_failure_leaves_no_half_written_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a b", "label": "x"}\n{"text": \n')
    with pytest.raises(DataError):
        spool_records(path, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize(
    "options", [{}, {"stratify": False, "seed": 3}, {"group": "patient"}, {"test": 0.5, "near": False}]
)
def test_divided_on_disk_as_in_memory(tmp_path: Path, options: dict) -> None:
    rows = records(300)
    inside = split(rows, ledger=tmp_path / "a.jsonl", **options)
    outside = split(spooled(rows, tmp_path / "rows.jsonl"), ledger=tmp_path / "b.jsonl", **options)
    for name in ("train", "validation", "test"):
        assert list(getattr(outside, name)) == getattr(inside, name)
        assert isinstance(getattr(outside, name), Chosen) and isinstance(getattr(inside, name), list)
    assert outside.excluded == inside.excluded and outside.clean_test_ids == inside.clean_test_ids
    for found in (inside, outside):
        found.statement.pop("ledger")
    assert outside.statement == inside.statement
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


@pytest.mark.parametrize("leakage", ["drop_train", "report"])
def test_given_files_on_disk(tmp_path: Path, leakage: str) -> None:
    rows = records(200)
    fresh = [Record(f"t{i}", (Message("user", sentence(5000 + i)),), label="a") for i in range(40)]
    test = [*rows[21:27:2], *fresh]
    inside = split(rows, given_test=test, leakage=leakage)
    disk = spooled(rows, tmp_path / "a.jsonl"), spooled(test, tmp_path / "b.jsonl")
    outside = split(disk[0], given_test=disk[1], leakage=leakage)
    assert inside.statement == outside.statement and inside.excluded == outside.excluded
    assert [list(outside.train), list(outside.test)] == [inside.train, inside.test]


def test_views_are_sequences(tmp_path: Path) -> None:
    rows = records(10)
    disk = spooled(rows, tmp_path / "a.jsonl")
    some = Chosen(disk, np.array([7, 2, 5]))
    assert ids(some) == ["r7", "r2", "r5"] == ids(some[:]) and some[-1].id == "r5" and some[np.int64(1)].id == "r2"
    both = Joined(disk, rows[:3], [])
    assert len(both) == 13 and ids(both) == [*ids(rows), "r0", "r1", "r2"] == ids(both[:])
    assert both[-1].id == "r2" and both[10].id == "r0" and ids(both[9:11]) == ["r9", "r0"]
    assert list(Texts(both)) == [one.full_text for one in both]
    for sequence in (disk, both):
        with pytest.raises(IndexError):
            sequence[13]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: disk[i % 10].id, range(500))) == [f"r{i % 10}" for i in range(500)]


def test_it_is_told_how_far_it_is() -> None:
    said: list[str] = []
    one = records(1)[0]
    assert sum(1 for _ in told((one for _ in range(250_000)), said.append, "rows read", 250_000)) == 250_000
    assert said == ["rows read: 100,000 of 250,000", "rows read: 200,000 of 250,000"]


def test_the_desk_takes_views(tmp_path: Path) -> None:
    found = split(spooled(records(60), tmp_path / "rows.jsonl"))
    parts = Desk([], tmp_path / "out").run({"train": found.train, "test": found.test})
    assert ids(parts["train"]) == ids(found.train) and ids(parts["test"]) == ids(found.test)


def test_answers_and_odd_characters_survive(tmp_path: Path) -> None:
    rows = [
        Record(
            "a\n",
            (Message("user", "line\nbreak \u2028 \x85 \ud800 👩‍👩‍👧"),),
            (Completion((Message("assistant", ""),)),),
        ),
        Record("b", label=("x", "y"), meta={"n": 1.5, "none": None}),
    ]
    disk = spooled(rows, tmp_path / "a.jsonl")
    assert list(disk) == rows and [disk[0], disk[1]] == rows


def test_bands_on_disk_give_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [one.text for one in records(400)] + [sentence(i, 8) for i in range(200)] * 2
    inside = duplicate_clusters(texts)
    monkeypatch.setattr(minhash, "BLOCK_CHARS", 5000)
    monkeypatch.setattr(minhash, "KEYS_IN_MEMORY", 20_000)
    outside = duplicate_clusters(texts)
    assert inside.links.tolist() == outside.links.tolist() and (inside.kind == 2).sum() > 10


MEMORY = """
import resource, sys
from pathlib import Path
from attune.data.sources import spool_records
from attune.data.split import split
folder = Path(sys.argv[1])
split(records := spool_records(folder / "rows.jsonl", folder / "read.jsonl").records, ledger=folder / "ledger.jsonl")
if sys.platform == "linux":  # ru_maxrss would be that of the process that started this one, where that is larger
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) << 10
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(records), peak >> 20)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    """90 MB of text in 10,000 rows: memory holds the libraries and one block of work (about 120 MiB)."""
    draw = random.Random(0)
    with open(tmp_path / "rows.jsonl", "w") as file:
        for i in range(10_000):
            text = " ".join(f"{draw.choice(WORDS)}{draw.getrandbits(20)}" for _ in range(750))
            file.write(json.dumps({"text": text, "label": "ab"[i % 2]}) + "\n")
    size = os.path.getsize(tmp_path / "rows.jsonl") >> 20
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, peak = map(int, done.stdout.split())
    assert rows == 10_000 and size > 85 and peak < 180, (size, peak)
