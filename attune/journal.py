"""What was paid for stays paid for: answers by the hash of their question, in a file that survives a kill."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from attune.errors import DataError, MachineError

__all__ = ["Journal", "key_of"]


def key_of(request: Any) -> str:
    """SHA-256 of the canonical JSON of a request."""
    text = json.dumps(request, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Journal:
    """`<folder>/answers.jsonl`, one answer a line, on the disk before anybody sees it.

    One process writes at a time; threads may share it. A line cut off by a kill is cut away on opening. In memory lie
    only keys and places.
    Raises: MachineError if another process has it open or the folder cannot be written; DataError if a line inside it
    is damaged.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder) / "answers.jsonl"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Answers may quote private text: readable for the owner alone.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise MachineError(
                f"the journal {self.path} cannot be written: {error.strerror}", fix="check the folder and its rights"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise MachineError(
                f"the journal {self.path} is in use by another process",
                why="two jobs with one journal would pay for the same answers twice",
                fix="wait for the other job to end, or stop it",
            ) from error
        self._lock = threading.Lock()
        self._places: dict[bytes, tuple[int, int]] = {}
        try:
            self._read()
        except BaseException:
            os.close(self._file)
            raise

    def _read(self) -> None:
        done = 0
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    key = bytes.fromhex(json.loads(line)["key"])
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(
                        "this line of the journal is damaged",
                        where=f"{self.path}:{number}",
                        fix="delete the line: its question will be asked and paid for once more",
                    ) from error
                self._places[key] = (done, len(line))
                done += len(line)
        if done != os.fstat(self._file).st_size:
            os.ftruncate(self._file, done)
        self._end = done

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def get(self, key: str) -> dict[str, Any] | None:
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        return json.loads(os.pread(self._file, place[1], place[0]))["answer"]

    def put(self, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer; returns when it is on the disk.

        Raises: MachineError if the disk does not take it.
        """
        text = json.dumps({"key": key, "answer": answer}, ensure_ascii=False, allow_nan=False) + "\n"
        line = text.encode("utf-8", "surrogatepass")
        with self._lock:
            try:
                done = 0
                while done < len(line):
                    done += os.write(self._file, line[done:])
                os.fsync(self._file)
            except OSError as error:
                os.ftruncate(self._file, self._end)
                raise MachineError(
                    f"the journal {self.path} takes no more: {error.strerror}",
                    why="an answer that cannot be kept would be paid for again",
                    fix="free disk space and run it again: what was answered before is kept",
                ) from error
            self._places[bytes.fromhex(key)] = (self._end, len(line))
            self._end += len(line)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
