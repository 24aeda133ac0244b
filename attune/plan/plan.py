"""`attune plan`: what to tune and how, whether to tune at all, and what it will take, before anything is spent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attune.errors import MachineError, RecipeError
from attune.plan.advise import Advice, advise
from attune.plan.choose import Choice, choose
from attune.plan.hardware import Machine, machine
from attune.plan.look import Look
from attune.plan.score import LONGEST, duration, sentence
from attune.plan.stages import looks, matrix_seconds, stages_of, together
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
    seen: dict[str, dict[str, Look]]
    """Stage -> task -> what stands in its data; what a recipe has only one of is called nothing."""
    machine: Machine
    advice: dict[str, list[Advice]]
    """By stage and task, as `part` names them."""
    notes: list[str] = field(default_factory=list)
    suggestions: list[dict[str, Any]] = field(default_factory=list)
    estimate: dict[str, Any] | None = None
    """Seconds and GiB with error bars; None where nothing was measured."""
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stage -> what its rehearsal found."""
    cost: dict[str, float] | None = None
    """The price of the predicted time, where a price an hour was given."""

    @property
    def looks(self) -> dict[str, Look]:
        """Every body of data by its stage and task."""
        return {part(stage, task): one for stage, tasks in self.seen.items() for task, one in tasks.items()}

    def to_dict(self) -> dict[str, Any]:
        tokens = {stage: facts["data"] for stage, facts in self.measured.items()}
        data = {name: one.to_dict() for name, one in self.looks.items()}
        advice = {name: [way.to_dict() for way in ways] for name, ways in self.advice.items()}
        return {
            "task": ", ".join(dict.fromkeys(one.task for one in self.looks.values())),
            "data": data[""] | {"tokens": tokens.get("")} if "" in data else data,
            "tokens": tokens,
            "machine": self.machine.to_dict(),
            "advice": advice.get("", advice),
            "base": self.recipe.stage_recipes[0].model.base if self.recipe.stages else self.recipe.model.base,
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
        lines = []
        for name, seen in self.looks.items():
            lines.append(f"data      {f'{name}: ' if name else ''}{_rows(seen)}")
            lines += [f"{'':10}{line}" for line in _about(seen)]
        for stage, found in self.measured.items():
            tokens = found["data"]
            lines.append(
                f"{'':10}{f'{stage}: ' if stage else ''}{tokens['median_tokens']} tokens at the median, "
                f"{tokens['p95_tokens']} at 95 %, {tokens['longest_tokens']} the longest, {tokens['tokens']:,} in all"
            )
        ways = [(name, way) for name, found in self.advice.items() for way in found]
        for number, (name, way) in enumerate(ways):
            said = f"{way.way}: {way.worth}. {way.reason}"
            lines.append(f"{'advice' if not number else '':10}{f'{name}: ' if name else ''}{said}")
        lines.append(f"machine   {self.machine.title}, {self.machine.memory_gib:g} GiB ({self.machine.source})")
        for stage, recipe in stages_of(self.recipe).items():
            lines.append(f"recipe    {f'{stage}: ' if stage else ''}{recipe.model.base}, {recipe.adapter.name}")
        lines += [f"          {key}: {reason}" for key, reason in self.why.items() if reason not in ("given",)]
        lines += [f"note      {note}" for note in self.notes]
        if self.estimate:
            lines += [f"{name}: {sentence(one)}" for name, one in self.estimate.get("stages", {}).items()]
            if matrix := self.estimate.get("matrix_seconds"):
                lines.append(f"predicted: the forgetting matrix {duration(matrix['value'])}")
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
        if budget and made.recipe.stages:
            raise RecipeError(
                "a plan of several stages fits no budget",
                where=made.recipe.where("stages"),
                why="how it should be shared among the stages is yours to say",
                fix="leave --budget out to see what each stage takes, then give each a train.budget or train.max_steps",
            )
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
        _measured(made, goal, limit, show)
    elif not made.machine.here:
        _reckoned(made, limit)
    if made.estimate is not None:
        made.notes += [f"not in the prediction: {what}" for what in made.estimate["missing"]]
    if price is not None and made.estimate is not None:
        hours = {key: value / 3600 for key, value in made.estimate["total_seconds"].items()}
        made.cost = {key: round(price * value, 2) for key, value in hours.items()}
    return made


def part(stage: str, task: str) -> str:
    """What a body of data is called: its stage and its task, as far as there are several."""
    return "/".join(filter(None, (stage, task)))


def _rows(seen: Look) -> str:
    return f"{seen.task}, {seen.rows:,} rows{'' if seen.whole else ' or more'}"


def _about(seen: Look) -> list[str]:
    """Classes, lengths in words and languages."""
    lines = []
    if seen.classes:
        few = ", ".join(f"{name} {count}" for name, count in list(seen.classes.items())[:5])
        lines.append(f"{len(seen.classes)} classes: {few}{', ...' if len(seen.classes) > 5 else ''}")
    lines.append(f"{seen.words['median']} words at the median, {seen.words['longest']} the longest")
    if seen.languages:
        lines.append(", ".join(f"{name} {share:.0%}" for name, share in seen.languages.items()))
    return lines


def _of_choice(chosen: Choice, goal: str | None) -> Plan:
    suggestions = [base.to_dict() | {"memory_gib": need} for base, need in chosen.suggestions]
    seen, advice = {"": {"": chosen.seen}}, {"": advise(chosen.seen, goal)}
    return Plan(chosen.recipe, chosen.why, seen, chosen.machine, advice, chosen.notes, suggestions)


def _of_recipe(recipe: Recipe, goal: str | None, hardware: str) -> Plan:
    made = Plan(recipe, {key: "as your recipe says" for key in recipe._places}, looks(stages_of(recipe)),
                machine(hardware), {})  # fmt: skip
    made.advice = {name: advise(one, goal) for name, one in made.looks.items()}
    return made


def _measured(made: Plan, goal: str | None, limit: float | None, show: Show) -> None:
    """Measure, predict, fit to the budget, refuse what does not fit the memory."""
    from attune.plan.estimate import fit_budget, measured, within_time

    seconds = min(LONGEST, 0.02 * limit) if limit else LONGEST
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="attune-plan-") as scratch:
        for name, recipe in stages_of(made.recipe).items():
            which = f" of stage {name}" if name else ""
            show.say(f"rehearsing a few steps and answers{which} to predict what the run will take")
            facts = made.measured[name] = measured(recipe, out=Path(scratch), seconds=seconds)
            if limit is not None:
                recipe, notes, found[name] = fit_budget(facts, recipe, limit - facts["rehearsal_seconds"])
                made.recipe = recipe.replace({"train.budget": None, "train.max_steps": found[name]["steps"]})
                made.notes += notes
                made.why.pop("train.budget", None)
                made.why["train.max_steps"] = "what fits the budget, from measured steps"
            else:
                _, found[name] = within_time(facts, recipe)
            made.notes += [f"{name}: {note}" if name else note for note in facts["training"]["notes"]]
            for task, tried in ((facts.get("answers") or {}).get("zero_shot") or {}).items():
                made.advice[part(name, task)] = advise(made.looks[part(name, task)], goal, tried)
    made.estimate = _whole(found, matrix_seconds(list(made.measured.values())))
    if made.estimate["memory_gib"]["value"] > made.machine.memory_gib:
        raise MachineError(
            f"training asks for {made.estimate['memory_gib']['value']:.1f} GiB, {made.machine.memory_gib:g} are free",
            fix="lower train.micro_batch_tokens, set train.gradient_checkpointing=true, or use adapter: lora",
        )


def _reckoned(made: Plan, limit: float | None) -> None:
    """Time and memory on a machine that is not here, from its data sheet and the base's shape."""
    from attune.plan.reckon import reckon

    found: dict[str, dict[str, Any]] = {}
    for name, recipe in stages_of(made.recipe).items():
        fitted, found[name] = reckon(recipe, list(made.seen[name].values()), made.machine, limit)
        if fitted is not recipe:
            allowed = duration(found[name]["train_seconds"]["value"])
            made.notes.append(f"{f'{name}: ' if name else ''}{found[name]['steps']} steps fit {allowed}")
            made.recipe = made.recipe if name else fitted
    made.estimate = _whole(found, None)
    place = made.machine
    made.notes.append(f"{place.title}: {place.source}; training only, within a factor of two at best")


def _whole(found: dict[str, dict[str, Any]], matrix: dict[str, float] | None) -> dict[str, Any]:
    """The prediction of a recipe: its only part's, or that of its stages together."""
    return found[""] if "" in found else together(found, matrix)
