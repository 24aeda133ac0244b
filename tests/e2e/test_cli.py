"""The command line as a user meets it: real processes, real files, exit codes, and no traceback."""

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attune import __version__

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
COMMANDS = ["", "run", "plan", "train", "evaluate", "chat", "show", "ls", "compare", "doctor", "schema", "explain"]
COMMANDS += ["init", "import", "data", "distill", "search"]
COMMANDS += [f"data {name}" for name in "check show split prepare audit label synthesize distill review".split()]
COMMANDS += ["data diff", "data forget"]
KINDS = {
    "refund": ["I want my money back", "refund please", "return my payment", "I was charged twice"],
    "login": ["I cannot sign in", "the password reset fails", "locked out of my account", "no two factor code"],
    "delivery": ["the parcel is late", "where is my order", "the courier lost it", "my package is damaged"],
}
TAIL = "today yesterday again urgently since Monday after lunch without answer in town on weekends by phone".split()


def attune(*words: str | Path, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attune.cli", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=ENV, input=stdin, capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.csv: 90 tickets of three kinds."""
    folder = tmp_path_factory.mktemp("work")
    rng = random.Random(0)
    rows = [
        f"{rng.choice(KINDS[kind])} {' '.join(rng.sample(TAIL, 5))} number {number},{kind}"
        for number, kind in enumerate(list(KINDS) * 30)
    ]
    (folder / "small.csv").write_text("\n".join(["note,kind", *rows]) + "\n")
    return folder


# without a model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick_and_loads_no_torch(command: str, tmp_path: Path) -> None:
    def seconds(*line: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env=ENV)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # A processor that others use as well is up to three times slower; so the measure is what Python itself needs for
    # the libraries of any command line, by turns with ours. Alone: 0.14 s and 0.28 s.
    libraries = (sys.executable, "-c", "import typer, typer.main, pydantic.main, rich.console, rich.table, rich.panel")
    help_page = (sys.executable, "-m", "attune.cli", *command.split(), "--help")
    turns = [(seconds(*help_page), seconds(*libraries)) for _ in range(3)]
    best, measure = (min(column) for column in zip(*turns, strict=True))
    print(f"attune {command} --help: {best:.2f} s of CPU time, its libraries {measure:.2f} s")
    assert best <= 3 * measure
    spy = (
        "import sys; from attune.cli import main; sys.argv = ['attune', *sys.argv[1:], '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'peft', 'sklearn'}))"
    )
    seen = subprocess.run([sys.executable, "-c", spy, *command.split()], capture_output=True, text=True, env=ENV)
    assert "Usage" in seen.stdout and seen.stdout.splitlines()[-1] == "[]"


def test_import_attune_loads_no_torch() -> None:
    code = "import sys, attune; attune.Recipe, attune.Run, attune.train; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_functions_stay_functions_after_their_rooms_are_loaded() -> None:
    code = "import attune, attune.train.optim, attune.evaluate.report\n"
    code += "print(callable(attune.train), callable(attune.evaluate))"
    done = subprocess.run([sys.executable, "-c", code + "\nattune.train('nope.yaml')"], capture_output=True, text=True)
    assert done.stdout.strip() == "True True" and "no such recipe file" in done.stderr


def test_version(tmp_path: Path) -> None:
    assert attune("--version", cwd=tmp_path).stdout.strip() == f"attune {__version__}"


def test_schema_and_explain(tmp_path: Path) -> None:
    schema = json.loads(attune("schema", cwd=tmp_path).stdout)
    assert {"data", "train", "model", "adapter", "objective", "evaluate"} <= set(schema["properties"])
    assert "learning_rate" in attune("explain", "train", cwd=tmp_path).stdout
    assert "16" in attune("explain", "adapter.lora.r", cwd=tmp_path).stdout


def test_doctor(tmp_path: Path) -> None:
    done = attune("doctor", "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert {"python", "packages", "device", "memory", "disk", "starter"} <= set(checks)
    assert done.returncode == (5 if any(check["state"] == "fault" for check in checks.values()) else 0)
    assert "Check(" not in attune("doctor", cwd=tmp_path).stdout


WRONG = [
    ("train nope.yaml", 3, "nope.yaml"),
    ("run nope.csv", 3, "nope.csv"),
    ("data check nope.csv", 3, "nope.csv"),
    ("data split nope.csv", 3, "nope.csv"),
    ("data show nope.yaml", 3, "nope.yaml"),
    ("init nope.csv", 3, "nope.csv"),
    ("plan nope.csv", 3, "nope.csv"),
    ("plan small.csv --target kind --hardware h20", 2, "did you mean 'h200'"),
    ("show nope", 2, "nope is not a run"),
    ("evaluate nope", 2, "nope is not a run"),
    ("chat nope", 2, "nope is not a run"),
    ("compare nope nope", 2, "nope is not a run"),
    ("explain trian", 2, "did you mean 'train'"),
    ("run small.csv --set foo", 2, "no '='"),
    ("run small.csv --set train.max_steps=x", 3, "a whole number"),
    ("run small.csv --budget banana", 3, "is not a duration"),
    ("data check small.csv --format foo", 3, "one of: alpaca"),
    ("data check small.csv --column text", 2, "--column text=note"),
]


@pytest.mark.parametrize(("words", "code", "said"), WRONG, ids=[words for words, *_ in WRONG])
def test_a_wrong_call_says_what_is_wrong_and_how_to_fix_it(folder: Path, words: str, code: int, said: str) -> None:
    done = attune(*words.split(), cwd=folder)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "fix: " in done.stderr


def test_a_typo_in_a_recipe_is_named_by_line_with_the_nearest_key(folder: Path) -> None:
    (folder / "typo.yaml").write_text("data:\n  path: small.csv\n  target: kind\ntrain:\n  lerning_rate: 1e-3\n")
    done = attune("train", "typo.yaml", cwd=folder)
    assert done.returncode == 3
    assert "typo.yaml:5:3" in done.stderr and "did you mean 'learning_rate'" in done.stderr


def test_data_check_names_the_bad_row(folder: Path) -> None:
    report = json.loads(attune("data", "check", "small.csv", "--target", "kind", "--json", cwd=folder).stdout)
    assert report["counts"]["kept"] == 90
    (folder / "bad.jsonl").write_text('{"text": "fine", "label": "a"}\n{"text": "cut off\n')
    done = attune("data", "check", "bad.jsonl", cwd=folder)
    assert done.returncode == 3 and "bad.jsonl:2:" in done.stderr


def test_data_split_divides_every_row_once(folder: Path) -> None:
    assert attune("data", "split", "small.csv", "--target", "kind", "--out", "parts", cwd=folder).returncode == 0
    parts = {name: (folder / "parts" / f"{name}.jsonl").read_text() for name in ("train", "validation", "test")}
    ids = [json.loads(line)["id"] for text in parts.values() for line in text.splitlines()]
    assert len(ids) == len(set(ids)) == 90 and all(parts.values())


@pytest.mark.slow
def test_data_show_marks_the_supervised_part(folder: Path) -> None:
    shown = attune("data", "show", "small.csv", "--target", "kind", "-n", "2", cwd=folder).stdout
    assert shown.count("--- example") == 2 and "⟦" in shown


@pytest.mark.slow
def test_init_writes_a_recipe_that_a_dry_run_accepts(folder: Path) -> None:
    done = attune("init", "small.csv", "--target", "kind", "--recipe", "made.yaml", cwd=folder)
    assert done.stdout.strip() == "attune train made.yaml"
    assert attune("train", "made.yaml", "--dry-run", cwd=folder).returncode == 0
    assert attune("init", "small.csv", "--target", "kind", "--recipe", "made.yaml", cwd=folder).returncode == 2
    assert not (folder / "runs").exists()


# with the bundled model ----------------------------------------------------------------------------------------------

RUN = "run small.csv --target kind --out out --set train.max_steps=4 --set evaluate.baselines=[majority,tfidf] --json"


@pytest.fixture(scope="module")
def finished(folder: Path) -> dict:
    """`attune run` on small.csv: its last line as an object."""
    done = attune(*RUN.split(), "--goal", "sort tickets by kind", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_run_ends_with_one_json_object_and_a_whole_folder(folder: Path, finished: dict) -> None:
    assert {"run", "verdict", "metrics", "baselines", "next"} <= set(finished)
    assert set(finished["metrics"]["test/f1_macro"]) == {"value", "low", "high", "n"}
    assert set(finished["baselines"]) == {"majority", "tfidf"}
    assert finished["verdict"]["word"]
    run = folder / finished["run"]
    for name in ("recipe.yaml", "env.json", "status.json", "metrics.jsonl", "report.html", "report.md"):
        assert (run / name).stat().st_size > 0, name
    for name in ("data/manifest.json", "data/preview.txt", "evaluation/results.json", "model/model.safetensors"):
        assert (run / name).stat().st_size > 0, name
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert not list(run.rglob(".tmp-*"))


@pytest.mark.slow
def test_show_ls_and_chat_read_a_finished_run(folder: Path, finished: dict) -> None:
    shown = attune("show", finished["run"], cwd=folder).stdout
    assert "tfidf" in shown and "Verdict" in shown and "report.html" in shown
    rows = json.loads(attune("ls", "--out", "out", "--json", cwd=folder).stdout)
    assert rows[0]["run"] == Path(finished["run"]).name and rows[0]["state"] == "done"
    assert rows[0]["value"] == finished["metrics"]["test/f1_macro"]["value"]
    talked = attune("chat", finished["run"], cwd=folder, stdin="where is my parcel\n")
    assert talked.returncode == 0 and any(kind in talked.stdout for kind in KINDS), talked.stderr


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(folder: Path, finished: dict) -> None:
    run = folder / finished["run"]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    again = attune(*RUN.split(), "--goal", "sort tickets by kind", cwd=folder)
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == finished
    assert {path: path.stat().st_mtime_ns for path in before} == before


RECIPE = """
name: small
data: {path: small.csv, target: kind}
adapter: full
train: {max_steps: 16, batch_size: 16, save_every: 1, eval_every: 8, learning_rate: 1e-3}
evaluate: {baselines: [majority], bootstrap: 100}
"""


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights_and_guards_its_name(folder: Path) -> None:
    (folder / "small.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "attune.cli", "train", "small.yaml", "--out", "stopped"]
    process = subprocess.Popen(command, cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines, limit = folder / "stopped" / "small" / "metrics.jsonl", time.monotonic() + 300
    while not (lines.exists() and lines.read_text().count("\n") >= 2):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert "stopped by SIGTERM after step" in said and "run the same command again" in said
    status = folder / "stopped" / "small" / "status.json"
    assert json.loads(status.read_text())["state"] == "interrupted"

    resumed = attune("train", "small.yaml", "--out", "stopped", cwd=folder)
    assert resumed.returncode == 0 and "resuming from step" in resumed.stderr, resumed.stderr
    assert json.loads(status.read_text())["state"] == "done"
    assert attune("train", "small.yaml", "--out", "whole", "--no-evaluate", "-q", cwd=folder).returncode == 0
    digests = {
        hashlib.sha256((folder / out / "small" / "model" / "model.safetensors").read_bytes()).hexdigest()
        for out in ("stopped", "whole")
    }
    assert len(digests) == 1
    logged = [json.loads(line)["step"] for line in lines.read_text().splitlines()]
    assert logged == list(range(1, 17))

    other = attune("train", "small.yaml", "seed=4", "--out", "stopped", cwd=folder)
    assert other.returncode == 2 and "different recipe" in other.stderr and "--fork" in other.stderr


@pytest.mark.slow
def test_sigterm_outside_training_steps_ends_in_order_and_can_be_continued(folder: Path) -> None:
    (folder / "early.yaml").write_text(RECIPE.replace("name: small", "name: early").replace("16, batch", "2, batch"))
    command = [sys.executable, "-m", "attune.cli", "train", "early.yaml", "--out", "early"]
    process = subprocess.Popen(command, cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    status, limit = folder / "early" / "early" / "status.json", time.monotonic() + 300
    while not (status.exists() and json.loads(status.read_text())["state"] == "created"):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    time.sleep(0.2)  # past `created`: preparing, long before the first step
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143 and "Traceback" not in said and "stopped by SIGTERM" in said, said
    assert json.loads(status.read_text())["state"] == "interrupted"
    assert attune("train", "early.yaml", "--out", "early", cwd=folder).returncode == 0
