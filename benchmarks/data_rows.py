"""Time and peak memory of reading, validating and writing back a large messages JSONL with `attune.data.sources.check`.

    python benchmarks/data_rows.py [--rows 1000000] [--folder /tmp]

Makes about 600 bytes a row in a temporary folder, runs `check` in a fresh process, prints one line of JSON.
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

CHECK = """
import json, resource, sys, time
from pathlib import Path
from attune.data.sources import check
start = time.perf_counter()
report = check(sys.argv[1], out=Path(sys.argv[2]))
seconds, cpu = time.perf_counter() - start, time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
figures = {"rows": report.counts["kept"], "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
print(json.dumps({**figures, "peak_rss_mib": peak >> 20}))
"""


def write(path: Path, rows: int) -> None:
    """Chat rows of 2 to 4 turns with words drawn by a fixed seed."""
    draw = random.Random(7)
    words = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "pu", "ré") for b in ("t", "nd", "ss", "rm", "ling", "port")]
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            turns = [{"role": "system", "content": "You answer questions about claims, in one paragraph."}]
            for _ in range(draw.randint(1, 2)):
                turns.append({"role": "user", "content": " ".join(draw.choices(words, k=22))})
                turns.append({"role": "assistant", "content": " ".join(draw.choices(words, k=32))})
            row = {"messages": turns, "group": f"g{number % 5000}", "score": round(draw.random(), 3)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary folder is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, out = Path(folder) / "rows.jsonl", Path(folder) / "out.jsonl"
        start = time.perf_counter()
        write(source, options.rows)
        made = time.perf_counter() - start
        run = subprocess.run([sys.executable, "-c", CHECK, str(source), str(out)], capture_output=True, text=True)
        if run.returncode:
            sys.exit(run.stderr)
        figures = json.loads(run.stdout)
        figures["input_mib"] = source.stat().st_size >> 20
        figures["output_mib"] = out.stat().st_size >> 20
        figures["generated_in_seconds"] = round(made, 1)
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
