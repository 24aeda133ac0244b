"""Checkpoints that are damaged, killed while being written, or written to a full disk."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from attune.errors import DataError
from attune.train import checkpoint

pytestmark = [pytest.mark.torture, pytest.mark.slow]

FILES = ["weights.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"]
DAMAGES = [
    "delete",
    "empty",
    "zeros",
    "cut half",
    "cut one byte",
    "longer",
    *(f"flip {share}" for share in (0, 30, 60, 99)),
]
STEPS = 24


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


saving = load_script("saving")


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
        return
    if how.startswith("flip"):
        content[(len(content) - 1) * int(how.split()[1]) // 99] ^= 0x10
    changed = {
        "empty": b"",
        "zeros": bytes(len(content)),
        "cut half": bytes(content[: len(content) // 2]),
        "cut one byte": bytes(content[:-1]),
        "longer": bytes(content) + b"\0",
    }.get(how, bytes(content))
    path.write_bytes(changed)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_damage_is_seen_and_the_one_before_is_used(tmp_path: Path, file: str, how: str) -> None:
    saving.save(tmp_path, 1)
    saving.save(tmp_path, 2)
    assert checkpoint.latest(tmp_path)[0].step == 2
    damage(tmp_path / "step-000002" / file, how)
    found, lines = checkpoint.latest(tmp_path)
    assert found.step == 1 and len(lines) == 1 and "step-000002" in lines[0]
    assert torch.equal(checkpoint.load(found, "weights")["w"], saving.tensors(1)["weights"]["w"])
    with pytest.raises(DataError, match="step-000002 is damaged"):
        checkpoint.verify(tmp_path / "step-000002")
    damage(tmp_path / "step-000001" / file, how)
    with pytest.raises(DataError, match="none of the 2 checkpoints"):
        checkpoint.latest(tmp_path)


def test_other_lies_are_seen(tmp_path: Path) -> None:
    """A renamed directory, a swapped file, a link, and a manifest that names a file outside."""
    saving.save(tmp_path, 1)
    saving.save(tmp_path, 2)
    shutil.copytree(tmp_path / "step-000001", tmp_path / "step-000003")
    assert checkpoint.latest(tmp_path)[0].step == 2
    shutil.copy(tmp_path / "step-000001" / "weights.safetensors", tmp_path / "step-000002")
    assert checkpoint.latest(tmp_path)[0].step == 1
    weights = tmp_path / "step-000001" / "weights.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="none of the 3"):
        checkpoint.latest(tmp_path)


def test_the_newest_saved_outlives_newer_damaged_ones(tmp_path: Path) -> None:
    """After a fallback, pruning may not take the fresh checkpoint for an old one."""
    for step in (4, 6, 8):
        saving.save(tmp_path, step)
    damage(tmp_path / "step-000008" / "state.json", "delete")
    assert checkpoint.latest(tmp_path)[0].step == 6
    saving.save(tmp_path, 7)
    checkpoint.prune(tmp_path, keep=1, best=None, newest=7)
    assert checkpoint.steps(tmp_path) == [7, 8] and checkpoint.latest(tmp_path)[0].step == 7


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in range(1, 7):
        saving.save(tmp_path, step)
    checkpoint.prune(tmp_path, keep=2, best=3, newest=6)
    assert checkpoint.steps(tmp_path) == [3, 5, 6]
    assert not list(tmp_path.glob(".tmp-*"))


def test_resuming_after_damage_gives_the_same_weights(tiny: Any, tmp_path: Path) -> None:
    _, whole = tiny.train(tmp_path, steps=6)
    for step, file in ((6, "state.json"), (5, "optimizer.safetensors")):
        damage(tmp_path / f"step-{step:06d}" / file, "flip 60")
    point, lines = checkpoint.latest(tmp_path)
    assert point.step == 4 and len(lines) == 2
    _, again = tiny.train(tmp_path, steps=6, resume=point)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert checkpoint.latest(tmp_path) == (checkpoint.verify(tmp_path / "step-000006"), [])


# killed ---------------------------------------------------------------------------------------------------------------


class Server:
    """A script that forks a process for every line it is given."""

    def __init__(self, script: Path):
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, *words: object) -> int:
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)
        return int(self._line())

    def status(self) -> int:
        return int(self._line())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def trainer() -> Iterator[Server]:
    server = Server(Path(__file__).parents[1] / "train" / "tiny_run.py")
    yield server
    server.close()


def test_kill_9_at_twenty_random_moments(trainer: Server, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    started = time.monotonic()
    trainer.start(whole / "checkpoints", STEPS)
    assert trainer.status() == 0
    seconds = time.monotonic() - started
    expected = (whole / "digest").read_text()
    draw = random.Random(0)
    killed, reached = 0, set()
    for trial in range(20):
        folder = tmp_path / str(trial)
        step = 0
        for _ in range(2):  # killed twice, then left to finish
            pid = trainer.start(folder / "checkpoints", STEPS)
            time.sleep(draw.uniform(0.05, 0.9) * seconds * (1 - step / STEPS))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            if trainer.status() == signal.SIGKILL:
                killed += 1
            else:
                seconds *= 0.8  # the machine was busier while the whole run was timed
            found = checkpoint.latest(folder / "checkpoints")
            assert not found[1], "a killed save left a checkpoint that does not verify"
            step = found[0].step if found[0] else 0
            reached.add(step)
        trainer.start(folder / "checkpoints", STEPS)
        assert trainer.status() == 0
        assert (folder / "digest").read_text() == expected, f"trial {trial}"
        assert not list((folder / "checkpoints").glob(".tmp-*"))
    print(f"kill -9: {killed} kills over 20 runs, resumed from steps {sorted(reached)}: 20/20 identical")
    assert killed >= 20 and len(reached) >= 4


# strace ---------------------------------------------------------------------------------------------------------------

CALLS = "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir"


@pytest.fixture(scope="module")
def saver() -> Iterator[Server]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (make system)")
    server = Server(Path(__file__).with_name("saving.py"))
    yield server
    server.close()


def traced(saver: Server, folder: Path, inject: str = "") -> tuple[int, list[str]]:
    """One save of step 2 under strace, with a fault `call:what:when=n`; its wait status and the calls it made."""
    saving.save(folder, 1)
    pid = saver.start(folder)
    log = folder.with_suffix(".strace")
    faults = ["-e", f"inject={inject}"] if inject else []
    stat = Path(f"/proc/{pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":  # else the SIGCONT below could come too early
        time.sleep(0.005)
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={CALLS}", *faults, "-p", str(pid)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
            if tracer.poll() is not None or time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                saver.status()
                assert tracer.stderr is not None
                pytest.skip(f"strace may not attach here: {tracer.stderr.read().strip()}")
            time.sleep(0.005)
        os.kill(pid, signal.SIGCONT)
        status = saver.status()
    finally:
        tracer.wait(30)
    return status, re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE)


def every(calls: list[str]) -> list[str]:
    """`call:when=n`-places of all calls made; strace counts each kind of call by itself."""
    return [f"{call}:{{}}:when={calls[: number + 1].count(call)}" for number, call in enumerate(calls)]


def check_last_good(folder: Path, *, may_have: tuple[int, ...] = (1, 2)) -> int:
    found, damaged = checkpoint.latest(folder)
    assert found is not None and not damaged and found.step in may_have
    for name, group in saving.tensors(found.step).items():
        loaded = checkpoint.load(found, name)
        assert all(torch.equal(loaded[key], value) for key, value in group.items())
    assert found.state == {"step": found.step, "loss": 0.1 * found.step}
    return found.step


def test_kill_at_every_write_fsync_and_rename_of_a_save(saver: Server, tmp_path: Path) -> None:
    status, calls = traced(saver, tmp_path / "count")
    assert status == 0 and check_last_good(tmp_path / "count") == 2
    assert calls.count("fsync") >= 6 and calls.count("rename") >= 2
    reached = {1: 0, 2: 0}
    for number, place in enumerate(every(calls)):
        folder = tmp_path / str(number)
        status, _ = traced(saver, folder, place.format("signal=KILL"))
        assert status == signal.SIGKILL, f"{place} was not reached"
        reached[check_last_good(folder)] += 1
        saving.save(folder, 2)  # and the next save cleans up
        assert not list(folder.glob(".tmp-step-*")) and check_last_good(folder) == 2
    print(f"strace: killed at {len(calls)}/{len(calls)} calls of a save; the newest whole step was {reached}")
    assert reached[1] >= 5 and reached[2] >= 1


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_full_or_broken_disk_is_a_machine_error(saver: Server, tmp_path: Path, error: str) -> None:
    _, calls = traced(saver, tmp_path / "count")
    places = [place for place in every(calls) if place.startswith(("write", "pwrite", "fsync", "fdatasync"))]
    for number, place in enumerate(places):
        folder = tmp_path / str(number)
        status, _ = traced(saver, folder, place.format(f"error={error}"))
        assert os.WIFEXITED(status), place
        step = check_last_good(folder)
        assert os.WEXITSTATUS(status) == 5, f"{place}: exit {os.WEXITSTATUS(status)}, newest step {step}"
        assert not list(folder.glob(".tmp-*"))
    print(f"{error}: {len(places)}/{len(places)} failing calls are MachineError, the last good checkpoint is kept")


def test_a_state_that_is_not_json_is_refused_before_anything_is_visible(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        checkpoint.save(tmp_path, 1, tensors=saving.tensors(1), state={"loss": float("nan")}, fingerprint="f")
    assert list(tmp_path.iterdir()) == []


def test_manifest_names_every_file(tmp_path: Path) -> None:
    saving.save(tmp_path, 1)
    body = json.loads((tmp_path / "step-000001" / "MANIFEST.json").read_text().splitlines()[0])
    assert {*body["files"], "MANIFEST.json"} == {path.name for path in (tmp_path / "step-000001").iterdir()}
