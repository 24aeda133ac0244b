"""What this machine can do, and what stands in the way: `attune doctor`."""

from __future__ import annotations

import json
import locale
import os
import re
import shutil
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

__all__ = ["Check", "doctor"]

EXTRAS = {
    "hub": "Parquet files",
    "offline": "the minilm base: a pre-trained encoder without network",
    "pii": "presidio's tagger for people's names",
    "lang": "language recognition by lingua",
    "documents": "PDF files",
    "track": "TensorBoard",
}
"""Extras a user may want, and for what."""

SHOWN = ("torch", "transformers", "peft")
HUB = ("HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
SECRET = ("HF_TOKEN", "OPENAI_API_KEY")
"""Only whether they are set is ever said."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "note", "warning", "fault"]
    """`note`: an option not in use; `warning`: works, but slower or with less; `fault`: must be put right first."""
    found: str
    fix: str | None = None


def doctor(folder: str | Path = ".", environ: Mapping[str, str] = os.environ) -> list[Check]:
    """Everything a run depends on besides its recipe; `folder` is where runs would be written."""
    return [
        *_packages(),
        *_extras(),
        *_device(),
        *_threads(environ),
        *_memory(),
        *_disk(Path(folder)),
        *_text(),
        *_environment(environ),
        *_starter(),
    ]


def _wanted(extra: str | None) -> list[tuple[str, str, bool]]:
    """(package, what the metadata asks for, whether the installed version is right) of the core or of an extra."""
    from packaging.requirements import Requirement

    found = []
    for line in requires("attune") or []:
        requirement = Requirement(line)
        marker = requirement.marker
        core = marker is None or marker.evaluate({"extra": ""})
        if core if extra is None else not core and marker is not None and marker.evaluate({"extra": extra}):
            try:
                right = requirement.specifier.contains(version(requirement.name), prereleases=True)
            except PackageNotFoundError:
                right = False
            found.append((requirement.name, f"{requirement.name}{requirement.specifier}", right))
    return found


def _packages() -> Iterator[Check]:
    python = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check("python", "ok" if good else "fault", python, None if good else "use Python 3.11, 3.12 or 3.13")
    try:
        wanted = _wanted(None)
    except PackageNotFoundError:
        yield Check("packages", "fault", "attune runs from a folder and is not installed", "pip install -e .")
        return
    except ImportError as error:
        yield Check("packages", "fault", f"{error.name} is missing", f"pip install {error.name}")
        return
    wrong = [line for _, line, right in wanted if not right]
    if wrong:
        yield Check("packages", "fault", f"missing or of another version: {', '.join(wrong)}", _pip(wrong))
    else:
        shown = ", ".join(f"{name} {version(name)}" for name in SHOWN)
        yield Check("packages", "ok", f"all {len(wanted)} within range ({shown})")


def _pip(lines: list[str]) -> str:
    return "pip install " + " ".join(f"'{line}'" for line in lines)


def _extras() -> Iterator[Check]:
    for extra, what in EXTRAS.items():
        try:
            missing = [line for _, line, right in _wanted(extra) if not right]
        except (PackageNotFoundError, ImportError):
            return
        if missing:
            yield Check(f"extra {extra}", "note", f"not installed: {what}", f"pip install 'attune[{extra}]'")
        else:
            yield Check(f"extra {extra}", "ok", what)


def _device() -> Iterator[Check]:
    try:
        import torch

        from attune.model.machine import fast_bfloat16
    except (ImportError, OSError) as error:
        yield Check("device", "fault", f"torch does not load: {error}", "pip install --force-reinstall torch")
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            yield Check("device", "ok", f"cuda:{index} {facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    elif Path("/dev/nvidiactl").exists():
        why = f"a GPU is here, but torch {torch.__version__} does not use it"
        yield Check("device", "warning", why, "install the CUDA build of torch, or check the driver with nvidia-smi")
    else:
        yield Check("device", "ok", "cpu")
    if fast_bfloat16():
        yield Check("bfloat16", "ok", "computed fast: model.dtype auto takes it")
    else:
        yield Check("bfloat16", "note", "not computed fast here: model.dtype auto takes float32")


def _threads(environ: Mapping[str, str]) -> Iterator[Check]:
    from attune.model.machine import usable_cores

    cores, asked = usable_cores(), environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and 0 < int(asked) < cores:
        yield Check("threads", "warning", f"OMP_NUM_THREADS={asked} of {cores} cores", "unset OMP_NUM_THREADS")
    else:
        yield Check("threads", "ok", f"{cores} core{'s' * (cores > 1)}")


def _memory() -> Iterator[Check]:
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            free = min(free, max(0, int(limit) - used))
    except (OSError, ValueError, StopIteration):
        pass  # not Linux, or no cgroup: what is known so far stands
    gib = free / 2**30
    fix = "close other programs, or set train.micro_batch_tokens" if gib < 2 else None
    yield Check("memory", "warning" if fix else "ok", f"{gib:.1f} GiB free", fix)


def _disk(folder: Path) -> Iterator[Check]:
    nearest = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir()), Path("/"))
    if not os.access(nearest, os.W_OK):
        yield Check("disk", "fault", f"{nearest} cannot be written", "choose another folder with --out")
        return
    gib = shutil.disk_usage(nearest).free / 2**30
    state: Literal["ok", "warning", "fault"] = "fault" if gib < 0.5 else "warning" if gib < 5 else "ok"
    yield Check(
        "disk", state, f"{gib:.1f} GiB free in {nearest}", None if state == "ok" else "free space, or use --out"
    )


def _text() -> Iterator[Check]:
    names = {sys.getfilesystemencoding().lower(), locale.getpreferredencoding(False).lower()}
    other = sorted(name for name in names if name.replace("-", "") != "utf8")
    if other:
        yield Check(
            "text", "warning", f"the locale's encoding is {', '.join(other)}", "export LC_ALL=C.UTF-8 PYTHONUTF8=1"
        )
    else:
        yield Check("text", "ok", "UTF-8")


def _environment(environ: Mapping[str, str]) -> Iterator[Check]:
    said = [f"{name}={re.sub('//[^/@]*@', '//', environ[name])}" for name in HUB if environ.get(name)]
    said += [f"{name} is set" for name in SECRET if environ.get(name)]
    yield Check("environment", "ok", ", ".join(said) or "no hub variables set")


def _starter() -> Iterator[Check]:
    folder = Path(__file__).parent / "model" / "starter"
    fix = "pip install --force-reinstall --no-deps attune"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"):
        if not (folder / name).is_file():
            yield Check("starter", "fault", f"the bundled base lacks {name}", fix)
            return
    weights = folder / "model.safetensors"
    try:
        with open(weights, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 2**24)))
        end = 8 + length + max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError, TypeError) as error:
        yield Check("starter", "fault", f"the bundled base's weights cannot be read: {error}", fix)
        return
    if weights.stat().st_size != end:
        yield Check("starter", "fault", f"the bundled base's weights have {weights.stat().st_size} of {end} bytes", fix)
    else:
        yield Check("starter", "ok", f"bundled base, {end / 2**20:.0f} MiB")
