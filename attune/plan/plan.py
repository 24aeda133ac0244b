"""`attune plan`: what to tune and how, whether to tune at all, and what it will take, before anything is spent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attune.errors import MachineError
from attune.plan.advise import Advice, advise
from attune.plan.catalog import bases, folder_base
from attune.plan.choose import Choice, choose
from attune.plan.hardware import Machine, machine
from attune.plan.look import Look, look
from attune.plan.score import LONGEST, duration, sentence
from attune.recipe import Recipe
from attune.recipe.base import budget_seconds
from attune.show import Show

__all__ = ["Plan", "plan"]

RECIPES = (".yaml", ".yml")


@dataclass
class Plan:
    """A recipe with its reasons, the advice, and the prediction."""

    recipe: Recipe
    why: dict[str, str]
    seen: Look
    machine: Machine
    advice: list[Advice]
    notes: list[str] = field(default_factory=list)
    suggestions: list[dict[str, Any]] = field(default_factory=list)
    estimate: dict[str, Any] | None = None
    """Seconds and GiB with error bars; None where nothing was measured."""
    measured: dict[str, Any] | None = None
    cost: dict[str, float] | None = None
    """The price of the predicted time, where a price an hour was given."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.seen.task,
            "data": self.seen.to_dict() | {"tokens": (self.measured or {}).get("data")},
            "machine": self.machine.to_dict(),
            "advice": [one.to_dict() for one in self.advice],
            "base": self.recipe.model.base,
            "method": self.recipe.adapter.name,
            "why": self.why,
            "notes": self.notes,
            "suggestions": self.suggestions,
            "estimate": self.estimate,
            "cost": self.cost,
            "recipe": self.recipe.model_dump(mode="json"),
        }

    def text(self) -> str:
        """All of it for a reader."""
        seen = self.seen
        more = "" if seen.whole else " or more"
        lines = [f"data      {seen.task}, {seen.rows:,} rows{more}"]
        if seen.classes:
            few = ", ".join(f"{name} {count}" for name, count in list(seen.classes.items())[:5])
            lines.append(f"          {len(seen.classes)} classes: {few}{', ...' if len(seen.classes) > 5 else ''}")
        tokens = (self.measured or {}).get("data")
        if tokens:
            lines.append(
                f"          {tokens['median_tokens']} tokens at the median, {tokens['p95_tokens']} at 95 %, "
                f"{tokens['longest_tokens']} the longest, {tokens['tokens']:,} in all"
            )
        else:
            lines.append(f"          {seen.words['median']} words at the median, {seen.words['longest']} the longest")
        if seen.languages:
            lines.append("          " + ", ".join(f"{name} {share:.0%}" for name, share in seen.languages.items()))
        for number, way in enumerate(self.advice):
            lines.append(f"{'advice' if not number else '':10}{way.way}: {way.worth}. {way.reason}")
        lines.append(f"machine   {self.machine.title}, {self.machine.memory_gib:g} GiB ({self.machine.source})")
        lines.append(f"recipe    {self.recipe.model.base}, {self.recipe.adapter.name}")
        lines += [f"          {key}: {reason}" for key, reason in self.why.items() if reason not in ("given",)]
        lines += [f"note      {note}" for note in self.notes]
        if self.estimate:
            lines.append(sentence(self.estimate))
        if self.cost:
            lines.append(f"cost      {self.cost['value']:.2f} ({self.cost['low']:.2f} to {self.cost['high']:.2f})")
        for one in self.suggestions:
            gate = ", gated" if one["gated"] else ""
            lines.append(
                f"also      {one['id']} ({one['parameters'] / 1e6:,.0f} M, {one['licence']}{gate}): about "
                f"{one['memory_gib']:g} GiB; not on this machine, facts from memory of its card"
            )
        return "\n".join(lines)

    def recipe_text(self) -> str:
        """The whole recipe as YAML, with the reason behind every key that is not at its default."""
        lines: list[str] = []
        path: list[str] = []
        for line in self.recipe.dump().splitlines():
            depth = (len(line) - len(line.lstrip())) // 2
            key = line.strip().split(":")[0]
            path = [*path[:depth], key]
            dotted = ".".join(path)
            reason = self.why.get(dotted) or (
                self.why.get(dotted.rpartition(".")[0]) if key in ("type", "name") else None
            )
            lines.append(f"{line}  # {reason}" if reason and not line.rstrip().endswith(":") else line)
        return "\n".join(lines) + "\n"


def plan(
    source: str | Path | Recipe,
    *,
    goal: str | None = None,
    budget: str | None = None,
    hardware: str = "here",
    licence: str | None = None,
    price: float | None = None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    target: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    measure: bool = True,
    show: Show | None = None,
) -> Plan:
    """A plan for a data file (a recipe is chosen) or for a recipe (it is taken as it is).

    On this machine a few real steps and answers are measured in a process of their own (`measure=False` leaves that
    out); another machine of the table is reckoned from its maker's figures. `price` is per hour, in any currency.
    Raises: MachineError (exit 5) where the machine or the budget is too small, with the figures.
    """
    show = show or Show()
    limit = budget_seconds(budget)
    if isinstance(source, Recipe) or str(source).endswith(RECIPES):
        made = _of_recipe(source if isinstance(source, Recipe) else Recipe.load(source, overrides), goal, hardware)
        if budget:
            made.recipe = made.recipe.replace({"train.budget": budget})
    else:
        chosen = choose(
            str(source),
            goal=goal,
            budget=budget,
            test=str(test) if test else None,
            validation=str(validation) if validation else None,
            target=target,
            hardware=hardware,
            licence=licence,
            overrides=overrides,
        )
        made = _of_choice(chosen, goal)
    if made.machine.here and measure:
        show.say("rehearsing a few steps and answers to predict what the run will take")
        _measured(made, goal, limit)
    elif not made.machine.here:
        _reckoned(made, limit)
    if price is not None and made.estimate is not None:
        hours = {key: value / 3600 for key, value in made.estimate["total_seconds"].items()}
        made.cost = {key: round(price * value, 2) for key, value in hours.items()}
    return made


def _of_choice(chosen: Choice, goal: str | None) -> Plan:
    suggestions = [base.to_dict() | {"memory_gib": need} for base, need in chosen.suggestions]
    advice = advise(chosen.seen, goal)
    return Plan(chosen.recipe, chosen.why, chosen.seen, chosen.machine, advice, chosen.notes, suggestions)


def _of_recipe(recipe: Recipe, goal: str | None, hardware: str) -> Plan:
    seen = look(recipe.data)
    given = {key: "as your recipe says" for key in recipe._places}
    return Plan(recipe, given, seen, machine(hardware), advise(seen, goal))


def _measured(made: Plan, goal: str | None, limit: float | None) -> None:
    """Measure, predict, fit to the budget, refuse what does not fit the memory."""
    from attune.plan.estimate import fit_budget, measured, predict

    with tempfile.TemporaryDirectory(prefix="attune-plan-") as scratch:
        part = min(LONGEST, 0.02 * limit) if limit else LONGEST
        facts = measured(made.recipe, out=Path(scratch), seconds=part)
    made.measured = facts
    if limit is not None:
        made.recipe, notes, made.estimate = fit_budget(facts, made.recipe, limit - facts["rehearsal_seconds"])
        made.notes += notes
        made.recipe = made.recipe.replace({"train.budget": None, "train.max_steps": made.estimate["steps"]})
        made.why.pop("train.budget", None)
        made.why["train.max_steps"] = "what fits the budget, from measured steps"
    else:
        made.estimate = predict(facts, made.recipe)
    made.notes += facts["training"]["notes"]
    made.advice = advise(made.seen, goal, (facts.get("answers") or {}).get("zero_shot"))
    if made.estimate["memory_gib"]["value"] > made.machine.memory_gib:
        raise MachineError(
            f"training asks for {made.estimate['memory_gib']['value']:.1f} GiB, {made.machine.memory_gib:g} are free",
            fix="lower train.micro_batch_tokens, set train.gradient_checkpointing=true, or use adapter: lora",
        )


def _reckoned(made: Plan, limit: float | None) -> None:
    """Time and memory on a machine that is not here, from its data sheet and the base's shape."""
    from attune.model.load import load_tokenizer
    from attune.plan.choose import FORWARD, LORA_SHARE, ROOM
    from attune.plan.sizes import memory_gib, seconds_on

    recipe, place = made.recipe, made.machine
    known = {base.id: base for base in bases()}
    base = known.get(recipe.model.base) or folder_base(recipe.model.base)
    if base.present:
        tokenizer = load_tokenizer(recipe.model)
        some = made.seen.sample[:100]
        each = sum(len(tokenizer(text, add_special_tokens=True)["input_ids"]) for text in some) / max(1, len(some))
    else:
        each = 1.4 * made.seen.words["median"]  # usual for English
    each += 1.4 * made.seen.answer_words
    full = recipe.adapter.name == "full"
    held_out = recipe.data.split.validation + (0 if recipe.data.test else recipe.data.split.test)
    rows = (1 - held_out) * made.seen.rows
    forward = recipe.train.micro_batch_tokens or FORWARD[place.kind]
    size = recipe.train.batch_size or max(1, round((recipe.train.batch_tokens or 8192) / each))
    steps = recipe.train.max_steps or max(1, round(recipe.train.epochs * rows / size))
    tokens = steps * size * each
    value, low, high = seconds_on(
        base.shape, place, tokens=tokens, forwards=steps * max(1, -(-size * each // forward)), full=full
    )
    need = memory_gib(
        base.shape,
        trained=(1.0 if full else LORA_SHARE) * base.shape.parameters,
        forward_tokens=int(min(forward, size * each)),
        kind=place.kind,
        checkpointing=recipe.train.gradient_checkpointing,
    )
    if need > ROOM * place.memory_gib:
        raise MachineError(
            f"{base.id} with adapter {recipe.adapter.name} does not fit {place.title}",
            why=f"about {need:.1f} GiB; {ROOM * place.memory_gib:.1f} of {place.memory_gib:g} GiB may be used",
            fix="adapter: lora, a lower train.micro_batch_tokens, train.gradient_checkpointing=true, or a smaller base",
        )
    if limit is not None and value > limit:
        steps = max(1, int(steps * limit / value))
        value, low, high = limit, low * limit / value, high * limit / value
        made.recipe = recipe.replace({"train.max_steps": steps, "train.budget": None})
        made.notes.append(f"{steps} steps fit {duration(limit)}")
    figures = {"value": round(value, 3), "low": round(low, 3), "high": round(high, 3)}
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0}
    made.estimate = {
        "steps": steps,
        "seconds_per_step": value / steps,
        "tokens_per_second": tokens / value,
        "train_seconds": figures,
        "evaluate_seconds": nothing,
        "total_seconds": figures,
        "memory_gib": {"value": round(need, 2), "low": round(0.6 * need, 2), "high": round(1.5 * need, 2)},
        "source": place.source,
    }
    made.notes.append(
        f"{place.title}: {place.source}; training only, within a factor of two at best; evaluation is not reckoned"
    )
