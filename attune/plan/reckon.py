"""What training takes on a machine that is not here: from its data sheet and the base's shape, measured by nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attune.data.mix import allotted
from attune.errors import MachineError
from attune.plan.catalog import bases, folder_base
from attune.plan.choose import FORWARD, LORA_SHARE, ROOM
from attune.plan.sizes import memory_gib, seconds_on

if TYPE_CHECKING:
    from attune.plan.catalog import Base
    from attune.plan.hardware import Machine
    from attune.plan.look import Look
    from attune.recipe import Recipe

__all__ = ["reckon"]

WORD_TOKENS = 1.4
"""Tokens of an English word, usually."""


def reckon(
    recipe: Recipe, seen: Sequence[Look], place: Machine, limit: float | None = None
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe, with fewer steps where `limit` seconds leave no more, and its prediction: training only. `seen` holds
    a look at each of its tasks.

    Raises: MachineError where it does not fit the memory.
    """
    known = {base.id: base for base in bases()}
    base = known.get(recipe.model.base) or folder_base(recipe.model.base)
    tokens_each, rows = _mixed(recipe, seen, base)
    full = recipe.adapter.name == "full"
    forward = recipe.train.micro_batch_tokens or FORWARD[place.kind]
    size = recipe.train.batch_size or max(1, round((recipe.train.batch_tokens or 8192) / tokens_each))
    steps = recipe.train.max_steps or max(1, round(recipe.train.epochs * rows / size))
    tokens = steps * size * tokens_each
    forwards = steps * max(1, -(-size * tokens_each // forward))
    value, low, high = seconds_on(base.shape, place, tokens=tokens, forwards=forwards, full=full)
    need = memory_gib(
        base.shape,
        trained=(1.0 if full else LORA_SHARE) * base.shape.parameters,
        forward_tokens=int(min(forward, size * tokens_each)),
        kind=place.kind,
        checkpointing=recipe.train.gradient_checkpointing,
    )
    if need > ROOM * place.memory_gib:
        raise MachineError(
            f"{base.id} with adapter {recipe.adapter.name} does not fit {place.title}",
            why=f"about {need:.1f} GiB; {ROOM * place.memory_gib:.1f} of {place.memory_gib:g} GiB may be used",
            fix="adapter: lora, a lower train.micro_batch_tokens, train.gradient_checkpointing=true, or a smaller base",
        )
    limit = limit if limit is not None else recipe.train.budget_seconds if recipe.train.max_steps is None else None
    if limit is not None and value > limit:
        steps = max(1, int(steps * limit / value))
        tokens *= limit / value
        value, low, high = limit, low * limit / value, high * limit / value
        recipe = recipe.replace({"train.max_steps": steps, "train.budget": None})
    figures = {"value": round(value, 3), "low": round(low, 3), "high": round(high, 3)}
    return recipe, {
        "steps": steps,
        "seconds_per_step": value / steps,
        "tokens_per_second": tokens / value,
        "train_seconds": figures,
        "evaluate_seconds": {"value": 0.0, "low": 0.0, "high": 0.0},
        "total_seconds": dict(figures),
        "memory_gib": {"value": round(need, 2), "low": round(0.6 * need, 2), "high": round(1.5 * need, 2)},
        "missing": ["evaluation"],
        "source": place.source,
    }


def _mixed(recipe: Recipe, seen: Sequence[Look], base: Base) -> tuple[float, float]:
    """(tokens of an example, examples of an epoch), over the shares of the tasks."""
    sources = recipe.data.sources
    split = recipe.data.split
    sizes = []
    for number, look in enumerate(seen):
        test = sources[number].test if sources else recipe.data.test
        validation = sources[number].validation if sources else recipe.data.validation
        held_out = (0 if validation else split.validation) + (0 if test else split.test)
        sizes.append(max(1, round((1 - held_out) * look.rows)))
    counts = allotted(sizes, [source.weight for source in sources] or [1.0], recipe.data.mix.temperature)
    tokens = [_tokens(recipe, look, base) for look in seen]
    return sum(count * each for count, each in zip(counts, tokens, strict=True)) / sum(counts), float(sum(counts))


def _tokens(recipe: Recipe, look: Look, base: Base) -> float:
    each = WORD_TOKENS * look.words["median"]
    if base.present and look.sample:
        from attune.model.load import load_tokenizer

        tokenizer = load_tokenizer(recipe.model)
        some = look.sample[:100]
        each = sum(len(tokenizer(text, add_special_tokens=True)["input_ids"]) for text in some) / len(some)
    return each + WORD_TOKENS * look.answer_words
