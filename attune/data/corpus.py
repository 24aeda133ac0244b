"""Raw text as one long row of tokens on disk: what pre-training reads, without ever holding it in memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.data.documents import Document, as_turns, documents
from attune.durable import fsync
from attune.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = ["CorpusTokens", "tokenise_corpus"]

DOCUMENTS_PER_BLOCK = 256
"""Documents tokenised and written together: bounds the memory, whatever the size of the corpus."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class CorpusTokens:
    """A tokenised corpus in a folder: `tokens.bin` to train on, `held_out.bin` for bits per byte, `manifest.json`.

    Both files are bare little-endian token ids; every document ends with `manifest["separator"]`, which occurs nowhere
    else. `manifest["train"]` and `["held_out"]` count documents, tokens (separators included) and UTF-8 bytes of text.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> CorpusTokens:
        """The corpus that `tokenise_corpus` wrote into `folder`.

        Raises: DataError if there is none, or if a token file is not as long as the manifest says.
        """
        folder = Path(folder)
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            width = int(manifest["dtype"].removeprefix("uint")) // 8
            expected = {part: manifest[part]["tokens"] * width for part in ("train", "held_out")}
        except FileNotFoundError as error:
            raise DataError("no tokenised corpus here", where=str(folder), why="manifest.json is missing") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "the manifest of this tokenised corpus cannot be read",
                where=str(folder / "manifest.json"),
                why=str(error),
                fix="delete the folder; it is written again from the text",
            ) from error
        corpus = cls(folder, manifest)
        for part, size in expected.items():
            path = corpus._path(part)
            found = path.stat().st_size if path.exists() else 0
            if found != size:
                raise DataError(
                    f"{path.name} holds {found} bytes, the manifest says {size}",
                    where=str(path),
                    fix="delete the folder; it is written again from the text",
                )
        return corpus

    def _path(self, part: str) -> Path:
        return self.folder / {"train": "tokens.bin", "held_out": "held_out.bin"}[part]

    def tokens(self, part: str = "train") -> np.ndarray:
        """All tokens of `train` or `held_out`, memory-mapped read-only. Shapes: [tokens]."""
        import numpy as np

        dtype = np.dtype(self.manifest["dtype"]).newbyteorder("<")
        if not self.manifest[part]["tokens"]:
            return np.empty(0, dtype)
        return np.memmap(self._path(part), dtype=dtype, mode="r")

    def windows(self, max_length: int, part: str = "train") -> np.ndarray:
        """The tokens cut into rows of `max_length`, in corpus order; the loader shuffles rows. No copy is made.

        Documents run on across rows; the last, incomplete row is left out. Shapes: [n_windows, max_length], of the
        manifest's unsigned type: convert a row before giving it to torch.
        """
        if max_length < 2:
            raise DataError(f"max_length {max_length} leaves nothing to predict", fix="use at least 2")
        tokens = self.tokens(part)
        count = len(tokens) // max_length
        if not count:
            raise DataError(
                f"the corpus has {len(tokens)} {part} tokens, less than one window of {max_length}",
                where=str(self.folder),
                fix="give more text or a smaller max_length",
            )
        return tokens[: count * max_length].reshape(count, max_length)


def tokenise_corpus(
    paths: Iterable[str | Path],
    tokenizer: PreTrainedTokenizerBase,
    out_dir: str | Path,
    *,
    field: str = "text",
    held_out: float = 0.002,
    chat_share: float = 0.0,
    dtype: str = "uint16",
    workers: int = 1,
    limit_chars: int | None = None,
) -> CorpusTokens:
    """Turn .jsonl, .jsonl.zst and .txt files into `out_dir`, or open it if it was made from the same before.

    Each document becomes its tokens and one separator (the tokenizer's eos). Special tokens spelled in the text are
    ordinary characters. `held_out` is the part of the documents, chosen by a hash of the text, that is kept away from
    training. `chat_share` of the training documents that visibly are dialogues or a question with its answer are put
    through the tokenizer's chat template, so that a base model has met turns and their control tokens; held-out
    documents stay plain. `limit_chars` stops after that much text. The result is the same for any `workers`.

    The folder appears only when it is complete.

    Raises: DataError for text that cannot be read, for token ids that `dtype` cannot hold, and for an `out_dir` that
    holds something else.
    """
    files = [Path(path) for path in paths]
    out = Path(out_dir)
    _check(files, tokenizer, dtype, held_out=held_out, chat_share=chat_share)
    recipe = {
        "format": FORMAT,
        "sources": [{"name": path.name, "sha256": _sha256(path)} for path in files],
        "tokenizer": _fingerprint(tokenizer),
        "separator": tokenizer.eos_token_id,
        "field": field,
        "held_out_share": held_out,
        "chat_share": chat_share,
        "dtype": dtype,
        "limit_chars": limit_chars,
    }
    if out.is_dir() and any(out.iterdir()):
        return _reopen(out, recipe)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".tmp-{out.name}-{os.getpid()}"
    temporary.mkdir()
    try:
        stream = _limited(documents(files, field), limit_chars)
        counts = _write(stream, tokenizer, temporary, recipe, workers)
        with (temporary / "manifest.json").open("w", encoding="utf-8") as file:
            json.dump(recipe | counts, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        try:
            temporary.rename(out)  # onto nothing, or onto an empty folder
        except OSError:
            if not (out.is_dir() and any(out.iterdir())):
                raise
            shutil.rmtree(temporary, ignore_errors=True)
            return _reopen(out, recipe)  # another process was faster
        fsync(out.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return CorpusTokens.open(out)


def _check(files: list[Path], tokenizer: PreTrainedTokenizerBase, dtype: str, **shares: float) -> None:
    if not files:
        raise DataError("no corpus files are named", fix="name .jsonl, .jsonl.zst or .txt files")
    for path in files:
        if not path.is_file():
            raise DataError("no such file", where=str(path))
    if dtype not in ("uint16", "uint32"):
        raise DataError(f"token files are uint16 or uint32, not {dtype}")
    if len(tokenizer) > 2 ** int(dtype.removeprefix("uint")):
        raise DataError(f"{len(tokenizer)} token ids do not fit into {dtype}", fix="use dtype uint32")
    if tokenizer.eos_token_id is None:
        raise DataError("the tokenizer has no eos token", why="it separates the documents")
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise DataError(f"{name} is {share}", why="it is a part of the documents", fix="use 0 <= share < 1")
    if shares["chat_share"] and not tokenizer.chat_template:
        raise DataError("chat_share needs a tokenizer with a chat template", fix="set chat_share to 0")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError("a corpus needs a fast tokenizer", why="this one has no tokenizer.json")
    content = _clean(tokenizer).to_str() + json.dumps(tokenizer.chat_template)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def _clean(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy of the fast tokenizer's core without the padding and truncation that an earlier call may have left set."""
    from tokenizers import Tokenizer

    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.no_padding()
    core.no_truncation()
    return core


def _reopen(out: Path, recipe: dict[str, Any]) -> CorpusTokens:
    corpus = CorpusTokens.open(out)
    changed = [key for key, value in recipe.items() if corpus.manifest.get(key) != value]
    if changed:
        raise DataError(
            f"this folder holds a corpus made differently: {', '.join(changed)}",
            where=str(out),
            fix="delete the folder or name another",
        )
    return corpus


def _limited(stream: Iterator[Document], limit_chars: int | None) -> Iterator[Document]:
    read = 0
    for document in stream:
        if limit_chars is not None and read >= limit_chars:
            return
        read += len(document.text)
        yield document


def _draws(text: str) -> tuple[float, float]:
    """Two independent numbers in [0, 1) that depend on the text alone: for the held-out part and for chat."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64, int.from_bytes(digest[8:16], "big") / 2**64


_BARE = {"add_special_tokens": False}
Encoded = tuple[str, str | None, bool, int, list[int]]
"""Part, source, in chat form?, bytes of text, token ids with the separator."""


class _Encode:
    """Documents to token ids; a class so that a worker process builds its tokenizer once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, held_out: float, chat_share: float):
        self.tokenizer, self.held_out, self.chat_share = tokenizer, held_out, chat_share
        self.framed, self.plain = _clean(tokenizer), _clean(tokenizer)
        self.plain.encode_special_tokens = True  # means: encode them as ordinary text
        self.special = sorted(token.content for token in tokenizer.added_tokens_decoder.values())

    def __call__(self, block: list[Document]) -> list[Encoded]:
        parts, chats = [], []
        for document in block:
            for_held_out, for_chat = _draws(document.text)
            parts.append("held_out" if for_held_out < self.held_out else "train")
            wanted = parts[-1] == "train" and for_chat < self.chat_share
            turns = as_turns(document) if wanted and not any(s in document.text for s in self.special) else None
            chats.append(self.tokenizer.apply_chat_template(turns, tokenize=False) if turns else None)
        plain = iter(self.plain.encode_batch([d.text for d, chat in zip(block, chats) if chat is None], **_BARE))
        framed = iter(self.framed.encode_batch([chat for chat in chats if chat is not None], **_BARE))
        return [
            (
                part,
                document.source,
                chat is not None,
                len(document.text.encode("utf-8")),
                next(plain if chat is None else framed).ids + [self.tokenizer.eos_token_id],
            )
            for document, part, chat in zip(block, parts, chats)
        ]


_worker: _Encode | None = None


def _start_worker(*arguments: Any) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = _Encode(*arguments)


def _work(block: list[Document]) -> list[Encoded]:
    assert _worker is not None
    return _worker(block)


def _encoded(
    stream: Iterator[Document], tokenizer: PreTrainedTokenizerBase, recipe: dict[str, Any], workers: int
) -> Iterator[list[Encoded]]:
    """Blocks of encoded documents in the order of the stream."""
    blocks = iter(lambda: list(islice(stream, DOCUMENTS_PER_BLOCK)), [])
    arguments = (tokenizer, recipe["held_out_share"], recipe["chat_share"])
    if workers <= 1:
        yield from map(_Encode(*arguments), blocks)
        return
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing import get_context

    # Submitted a few at a time: `map` would read the whole corpus into its queue.
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, arguments) as pool:
        pending: list[Future[list[Encoded]]] = [pool.submit(_work, block) for block in islice(blocks, 2 * workers)]
        while pending:
            yield pending.pop(0).result()
            pending += [pool.submit(_work, block) for block in islice(blocks, 1)]


def _write(
    stream: Iterator[Document],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    recipe: dict[str, Any],
    workers: int,
) -> dict[str, Any]:
    """Write both token files; the counts for the manifest."""
    import numpy as np

    dtype = np.dtype(recipe["dtype"]).newbyteorder("<")
    totals: dict[str, Counter[str]] = {"train": Counter(), "held_out": Counter(), "chat": Counter()}
    by_source: dict[str, Counter[str]] = {}
    with (folder / "tokens.bin").open("wb") as train, (folder / "held_out.bin").open("wb") as held_out:
        for block in _encoded(stream, tokenizer, recipe, workers):
            for part, source, is_chat, size, ids in block:
                (train if part == "train" else held_out).write(np.asarray(ids, dtype=dtype).tobytes())
                count = Counter(documents=1, tokens=len(ids), bytes=size)
                totals[part] += count
                if is_chat:
                    totals["chat"] += count
                if source is not None:
                    by_source.setdefault(source, Counter()).update(count)
        for file in (train, held_out):
            file.flush()
            os.fsync(file.fileno())
    if not totals["train"]:
        raise DataError("the corpus has no text to train on", why="every document is empty or held out")
    keys = ("documents", "tokens", "bytes")
    return {name: {key: count[key] for key in keys} for name, count in totals.items()} | {
        "by_source": {name: {key: count[key] for key in keys} for name, count in sorted(by_source.items())}
    }
