"""The doctor finds what is wrong, says how to put it right, and keeps secrets."""

from __future__ import annotations

import os

import pytest

from attune import doctor as room
from attune.doctor import doctor


def named(checks, name):
    return next(check for check in checks if check.name == name)


def test_every_part_is_looked_at():
    checks = doctor()
    wanted = {"python", "packages", "device", "bfloat16", "threads", "memory", "disk", "text", "environment", "starter"}
    assert wanted | {f"extra {extra}" for extra in room.EXTRAS} == {check.name for check in checks}
    assert named(checks, "python").state == "ok" and "torch" in named(checks, "packages").found
    assert [check for check in checks if check.state in ("warning", "fault") and not check.fix] == []


def test_secrets_are_never_said():
    checks = doctor(environ={"HF_TOKEN": "hf_secret", "HF_HOME": "/cache", "HF_ENDPOINT": "https://me:secret@mirror/x"})
    assert "secret" not in str(checks)
    assert named(checks, "environment").found == "HF_HOME=/cache, HF_ENDPOINT=https://mirror/x, HF_TOKEN is set"


def test_fewer_threads_than_cores_is_a_warning():
    cores = named(doctor(environ={}), "threads").found
    if cores == "1 cores":
        pytest.skip("one core: no fewer threads are possible")
    assert named(doctor(environ={"OMP_NUM_THREADS": "1"}), "threads").state == "warning"


def test_a_folder_yet_to_be_made_counts_as_its_parent(tmp_path):
    assert str(tmp_path) in named(doctor(tmp_path / "a" / "b"), "disk").found


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    assert named(doctor(tmp_path), "disk").state == "fault"


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setattr(room, "requires", lambda name: ["no-such-package>=3", "pydantic>=999", "x>=1; extra == 'hub'"])
    checks = doctor()
    assert named(checks, "packages").state == "fault"
    assert named(checks, "packages").fix == "pip install 'no-such-package>=3' 'pydantic>=999'"
    assert named(checks, "extra hub").fix == "pip install 'attune[hub]'"


def test_a_cut_starter_is_a_fault(tmp_path, monkeypatch):
    folder = tmp_path / "model" / "starter"
    folder.mkdir(parents=True)
    monkeypatch.setattr(room, "__file__", str(tmp_path / "doctor.py"))
    assert "lacks config.json" in next(room._starter()).found
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_text("{}")
    header = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    whole = len(header).to_bytes(8, "little") + header + b"\0" * 8
    for content, state in ((whole, "ok"), (whole[:-1], "fault"), (b"\xff" * 20, "fault"), (b"", "fault")):
        (folder / "model.safetensors").write_bytes(content)
        assert next(room._starter()).state == state
