"""Old examples among the new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attune.data.examples import ExampleStore
from attune.data.mix import Joined, Mix
from attune.errors import RecipeError

if TYPE_CHECKING:
    from attune.data.prepared import Prepared
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.records import Record

__all__ = ["check_replay", "replay_texts", "replay_store", "with_replay"]


def _records(recipe: Recipe) -> tuple[str, list[Record]]:
    """What is replayed: its task, and the records."""
    from attune.data.sources import load_records
    from attune.evaluate.suites.texts import GENERAL, paragraphs, read_texts

    asked = recipe.retain.replay
    if asked is None or asked.path is None:
        return "text", paragraphs(GENERAL / "replay.txt")
    paths = [asked.path] if isinstance(asked.path, str) else asked.path
    if all(path.endswith((".txt", ".md")) for path in paths):
        return "text", [record for path in paths for record in read_texts(path)]
    found = load_records(paths)
    return found.task, found.records


def replay_texts(recipe: Recipe) -> list[str]:
    """The text that stands for what the base should keep."""
    return [record.full_text for record in _records(recipe)[1]]


def check_replay(recipe: Recipe, objective: Objective) -> None:
    """Read what would be replayed, before anything is loaded.

    Raises: RecipeError if it cannot train beside the objective's own; DataError if it cannot be read.
    """
    if recipe.retain.replay is not None:
        _fitting(recipe, objective)


def _fitting(recipe: Recipe, objective: Objective) -> tuple[bool, list[Record]]:
    """Whether what is replayed is plain text for a model that writes, and those of its records that can train.

    Raises: RecipeError if there are none.
    """
    from attune.model.load import load_config

    task, records = _records(recipe)
    plain = task == "text" and objective.head == "lm"
    if plain and load_config(recipe.model).is_encoder_decoder:
        raise RecipeError(
            f"retain.replay: plain text cannot train model.base '{recipe.model.base}'",
            where=recipe.where("retain.replay.path") or recipe.where("retain.replay"),
            why="an encoder-decoder reads one text and writes another, plain text gives it no pair",
            fix="retain.replay.path: rows of prompts and answers",
        )
    fitting = records if plain else [record for record in records if objective.accepts(record) is None]
    if not plain and (task not in (*objective.tasks, objective.task) or not fitting):
        raise RecipeError(
            f"retain.replay: rows for {task} cannot train beside objective '{objective.name}'",
            where=recipe.where("retain.replay"),
            fix="replay rows of the same kind, or text with objective sft or pretrain",
        )
    return plain, fitting


def replay_store(recipe: Recipe, objective: Objective, prepared: Prepared) -> ExampleStore:
    """The examples that are replayed, in the form of the objective's own.

    Raises: RecipeError if rows of that kind cannot train beside the objective's.
    """
    from attune.evaluate.likelihood import text_example

    plain, records = _fitting(recipe, objective)
    renderer = prepared.renderer
    if plain:
        made = (text_example(renderer, "", record.full_text, number) for number, record in enumerate(records))
        store = ExampleStore.of(
            (example for example in made if float(example.weight.sum())),
            vocab_size=max(renderer.encoder.vocab_size, len(renderer.tokenizer)),
        )
    else:
        store = objective.store(records, renderer)
    if not len(store):
        raise RecipeError("retain.replay has no examples", where=recipe.where("retain.replay"), fix="another path")
    return store


def with_replay(store: Any, mix: Mix | None, replayed: Any, share: float) -> tuple[Any, Mix]:
    """The store with what is replayed behind it, and a mix in which `share` of every step's examples are of that.

    An epoch still goes once through what it went through before: it has more steps by share / (1 - share).
    """
    if not 0 < share < 1:
        raise RecipeError(f"retain.replay.share {share:g} is not between 0 and 1", fix="0.05 to 0.5 are usual")
    joined = Joined([store, replayed])
    parts = list(mix.parts) if mix is not None else [np.arange(len(store))]
    counts = list(mix.per_epoch) if mix is not None else [len(store)]
    added = max(1, round(sum(counts) * share / (1 - share)))
    return joined, Mix([*parts, np.arange(len(store), len(joined))], [*counts, added])
