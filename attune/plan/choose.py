"""A recipe from nothing but data and a goal: base, method and hyperparameters, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from attune.errors import MachineError
from attune.plan.catalog import Base, bases, fitting, folder_base
from attune.plan.hardware import Machine, machine
from attune.plan.look import Look, look
from attune.plan.sizes import memory_gib
from attune.recipe import Recipe
from attune.records import LABEL_TASKS

__all__ = ["Choice", "choose"]

GOALS = (
    (r"\b(entit|ner\b|extract|tag|span|name)", "tagging"),
    (r"\b(classif|categor|label|route|triage|intent|sort|detect)", "classification"),
    (r"\b(answer|chat|assistant|summar|translat|rewrit|write|generat|repl|instruct)", "generation"),
    (r"\b(pre-?train|domain text|continue)", "text"),
)
SMALL_WEIGHTS = 100_000_000
"""Below this, full fine-tuning is as cheap as LoRA and learns more; above it, LoRA."""
SHORT_WORDS = 30
"""Texts up to this median length are read better by the sentence encoder; longer ones, whose order matters, were not
(docs/LOG.md: Banking77 and CLINC150 against the claims notes)."""
FORWARD = {"cpu": 4096, "cuda": 16384}
ROOM = 0.85
"""Share of a machine's memory that a plan may ask for."""
LORA_SHARE = 0.01
SUGGESTED = 4


@dataclass
class Choice:
    """A recipe, and why it is as it is."""

    recipe: Recipe
    seen: Look
    base: Base
    machine: Machine
    why: dict[str, str]
    """Recipe key -> reason, for every key that is not at its default."""
    notes: list[str] = field(default_factory=list)
    suggestions: list[tuple[Base, float]] = field(default_factory=list)
    """Larger or fitter bases that are not here, with the memory that their tuning takes on the machine."""
    memory_gib: float = 0.0
    """Reckoned from the base's shape, before anything is measured."""

    def lines(self) -> list[str]:
        """What is said before a run starts."""
        return [
            *self.notes,
            *(f"{key}: {reason}" for key, reason in self.why.items() if not key.startswith("data.path")),
        ]


def choose(
    data: str,
    *,
    goal: str | None = None,
    budget: str | None = None,
    test: str | None = None,
    validation: str | None = None,
    target: str | None = None,
    hardware: str = "here",
    licence: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
) -> Choice:
    """The recipe for a data file on a machine, and why each choice was made. `overrides` win over every rule.

    Raises: DataError if the file cannot be read; RecipeError for overrides that cannot be; MachineError if nothing
    that is here fits the machine's memory.
    """
    given: dict[str, Any] = {"data": {"path": data, "target": target, "test": test, "validation": validation}}
    given["train"] = {"budget": budget}
    asked = Recipe.load(given, overrides)
    seen, place = look(asked.data), machine(hardware)
    notes = [seen.why]
    why: dict[str, str] = {f"data.{key}": "given" for key, value in given["data"].items() if value is not None}
    task = seen.task if seen.task in (*LABEL_TASKS, "text") else "generation"
    wanted = next((name for pattern, name in GOALS if goal and re.search(pattern, goal.lower())), None)
    if wanted and wanted != task:
        notes.append(f"the goal sounds like {wanted}, but the data is {task}: going by the data")
    label_task = task in LABEL_TASKS
    base, reason = _base(asked, task, seen, licence, pinned="model.base" in asked._places)
    given["model"] = {"base": base.id}
    why["model.base"] = reason
    method, reason, held = _method(base, place)
    given["adapter"] = {"type": method}
    why["adapter"] = reason
    if held.forward < FORWARD[place.kind]:
        given["train"]["micro_batch_tokens"] = held.forward
        why["train.micro_batch_tokens"] = f"{held.forward} tokens a forward, so that it fits {place.memory_gib:.0f} GiB"
    if held.checkpointing:
        given["train"]["gradient_checkpointing"] = True
        why["train.gradient_checkpointing"] = "activations are computed twice: the memory does not hold them"
    small = method == "full"
    given["train"] |= {
        "epochs": 12 if label_task and small else 4 if label_task else 3,
        "batch_size": 32 if label_task else 16,
        "weight_decay": 0.05 if small else 0.01,
        "warmup_ratio": 0.06,
        "early_stopping": {"patience": 5},
    }
    why["train.epochs"] = (
        f"at most {given['train']['epochs']}: {'labels' if label_task else 'answers'} are learned in a few passes, and "
        "the best validation checkpoint is kept"
    )
    why["train.batch_size"] = f"{given['train']['batch_size']} a step" + (
        ": labels say little each" if label_task else ""
    )
    if small:
        why["train.weight_decay"] = "all weights train, so they are held back a little more"
    why["train.warmup_ratio"] = "the first steps are the ones that destroy what the base knows"
    why["train.early_stopping.patience"] = "validation figures jump about; 5 without gain are enough to be sure"
    if budget:
        why["train.budget"] = f"{budget} for everything"
    if label_task:
        given["data"]["truncate"] = "window"
        why["data.truncate"] = "long texts are read whole, in windows, and answered by the mean of their parts"
    elif task == "generation":
        given["data"] |= {"truncate": "drop", "max_truncated": 0.05}
        why["data.truncate"] = "an answer cut short teaches to stop too early; longer rows are left out"
        why["data.max_truncated"] = "up to 5 % of rows may be left out for their length"
    recipe = Recipe.load(given, overrides)
    why |= {key: "as you said" for key in recipe._places if key not in given and not key.startswith("data.path")}
    kinds = ("encoder", "decoder") if label_task else ("decoder",)
    return Choice(recipe, seen, base, place, why, notes, _suggested(kinds, base, seen, place, licence), held.gib)


def _base(asked: Recipe, task: str, seen: Look, licence: str | None, *, pinned: bool) -> tuple[Base, str]:
    """The best base that is here, and why."""
    known = {base.id: base for base in bases()}
    if pinned:
        name = asked.model.base
        return known.get(name) or folder_base(name), "as you said"
    here = [base for base in fitting(("decoder", "encoder"), licence=licence) if base.present]
    encoder = next((base for base in here if base.id == "minilm"), None)
    short = seen.words["median"] <= SHORT_WORDS
    if task in LABEL_TASKS and encoder and short and encoder.speaks(seen.language):
        return encoder, (
            f"short texts (median {seen.words['median']} words) in {seen.language or 'an unknown language'} with "
            "labels: the sentence encoder reads them better than the starter (docs/plan.md)"
        )
    starter = known["starter"]
    if licence is not None and starter not in here:
        raise MachineError(
            f"no base under licence '{licence}' is on this machine",
            why=f"bundled: starter ({starter.licence}), minilm ({known['minilm'].licence})",
            fix="download one of the catalogue, or give a folder: --set model.base=FOLDER",
        )
    reason = "bundled, and needs no network"
    if not starter.speaks(seen.language):
        reason += f"; it was trained on English and the data looks {seen.language}: choose a base that reads it"
    elif task in LABEL_TASKS:
        reason += f"; texts of {seen.words['median']} words at the median are long for the sentence encoder"
    return starter, reason


class Held(NamedTuple):
    """How a training fits into memory."""

    forward: int
    checkpointing: bool
    gib: float


def _held(base: Base, place: Machine, share: float) -> Held | None:
    """The largest forward that fits, without computing activations twice if possible; None where nothing fits."""
    usual = FORWARD[place.kind]
    for checkpointing in (False, True):
        for forward in (usual, usual // 2, usual // 4, usual // 8):
            need = memory_gib(
                base.shape,
                trained=share * base.shape.parameters,
                forward_tokens=forward,
                kind=place.kind,
                checkpointing=checkpointing,
            )
            if need <= ROOM * place.memory_gib:
                return Held(forward, checkpointing, need)
    return None


def _method(base: Base, place: Machine) -> tuple[str, str, Held]:
    """full or lora, by weights and memory, adapted to the machine.

    Raises: MachineError where not even LoRA with small forwards fits.
    """
    weights = base.shape.parameters
    about = f"{base.id} has about {weights / 1e6:,.0f} M weights"
    if weights < SMALL_WEIGHTS and (full := _held(base, place, 1.0)):
        return "full", f"full: {about}; below {SMALL_WEIGHTS / 1e6:.0f} M all of them train as cheaply", full
    if lora := _held(base, place, LORA_SHARE):
        return "lora", f"lora: {about}, of which about 1 % train in {lora.gib:.1f} GiB", lora
    least = memory_gib(
        base.shape,
        trained=LORA_SHARE * weights,
        forward_tokens=FORWARD[place.kind] // 8,
        kind=place.kind,
        checkpointing=True,
    )
    raise MachineError(
        f"{base.id} does not fit {place.title}",
        why=f"LoRA with small forwards and gradient checkpointing asks for about {least:.1f} GiB; "
        f"{ROOM * place.memory_gib:.1f} of {place.memory_gib:.1f} GiB may be used",
        fix="a smaller base, or a machine with more memory: --hardware says what another one would do",
    )


def _suggested(
    kinds: tuple[str, ...], base: Base, seen: Look, place: Machine, licence: str | None
) -> list[tuple[Base, float]]:
    """Bases of the catalogue that are not here and whose LoRA would fit the machine, the largest last."""
    context = int(1.5 * seen.words["p95"])
    found = []
    for one in fitting(kinds, language=seen.language, licence=licence, context=context):
        held = _held(one, place, LORA_SHARE)
        # on a CPU, more than a few hundred million weights would take days
        patient = place.kind == "cuda" or one.shape.parameters < 600e6
        if held and patient and not one.present and one.id != base.id:
            found.append((one, round(held.gib, 1)))
    return found[-SUGGESTED:]
