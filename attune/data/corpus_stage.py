"""The data stage of pre-training: raw text files -> one memory-mapped row of tokens, cached by content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from attune.data.corpus import CorpusTokens, tokenise_corpus
from attune.data.files import files_of
from attune.data.prepared import Prepared, Windows
from attune.data.render import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.recipe import Recipe

__all__ = ["prepare_corpus"]

LENGTH = 512
"""Window in tokens where the recipe names none."""


def prepare_corpus(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, *, cache: Path) -> tuple[Prepared, int]:
    """Tokenised windows of the recipe's text, and the window length.

    `data.split.validation` of the documents is kept apart for the loss; `data.test` is measured whole.
    Raises: DataError for files that cannot be read.
    """
    data = recipe.data
    length = data.max_length or LENGTH
    share = data.split.validation
    files = [file for path in data.paths for file in files_of(path)]
    corpus = _tokens(files, tokenizer, cache, held_out=share, chat_share=data.chat_share)
    stores: dict[str, Windows] = {"train": Windows(corpus.windows(length))}
    if corpus.manifest["held_out"]["tokens"] >= length:
        stores["validation"] = Windows(corpus.windows(length, "held_out"))
    sources = [source | {"licence": None} for source in corpus.manifest["sources"]]
    counts = {part: corpus.manifest[part] for part in ("train", "held_out")}
    if data.test is not None:
        test = _tokens(files_of(data.test), tokenizer, cache, held_out=0.0, chat_share=0.0)
        stores["test"] = Windows(test.windows(length))
        sources += [source | {"licence": None} for source in test.manifest["sources"]]
        counts["test"] = test.manifest["train"]
    summary = (
        f"{counts['train']['documents']:,} documents, {counts['train']['tokens']:,} tokens to train on; "
        f"{counts['held_out']['documents']:,} documents held out, chosen by a hash of their text"
    )
    manifest = {
        "task": "text",
        "format": "text",
        "why": "raw text",
        "sources": sources,
        "counts": counts,
        "splits": {name: len(store) for name, store in stores.items()},
        "split": {"summary": summary},
        "labels": [],
        "preflight": {"supervised_share": (length - 1) / length, "window_tokens": length},
    }
    renderer = Renderer(tokenizer, max_length=length, truncate="window")

    def show(n: int) -> str:
        windows = [
            tokenizer.decode(stores["train"][number].ids[:200].tolist())
            for number in range(min(n, len(stores["train"])))
        ]
        return "".join(
            f"--- window {number}, all tokens but the first supervised ---\n{text}\n"
            for number, text in enumerate(windows)
        )

    return Prepared("text", [], [], [], [], [], dict(stores), renderer, manifest, show), length


def _tokens(
    files: list[Path], tokenizer: PreTrainedTokenizerBase, cache: Path, *, held_out: float, chat_share: float
) -> CorpusTokens:
    facts = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    key = hashlib.sha256(json.dumps([facts, held_out, chat_share, tokenizer.name_or_path]).encode()).hexdigest()[:16]
    return tokenise_corpus(files, tokenizer, cache / f"tokens-{key}", held_out=held_out, chat_share=chat_share)
