"""Keeping what the base can while training: what is measured, what pulls back, and which weights are chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attune.data.batch import collate
from attune.data.some import some_validation
from attune.data.tasks import evened
from attune.durable import fsync
from attune.errors import DataError, RecipeError
from attune.evaluate.likelihood import text_example
from attune.evaluate.measure import quick_figures
from attune.evaluate.retained import Suites, ask, halves, lost, retained_suites, subject_for, untouched
from attune.model.language import language_model, no_language_model
from attune.model.load import load_tokenizer, origin
from attune.model.policy import Policy
from attune.train.enrich import enrich
from attune.train.fisher import cached_fisher
from attune.train.interpolate import GRID, between, choose, sweep
from attune.train.near_base import COLUMN, NearBase
from attune.train.optim import Masters
from attune.train.pull import Pull, low_rank_pairs
from attune.train.replay import check_replay, replay_store, replay_texts, with_replay

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.mix import Mix
    from attune.data.prepared import Prepared
    from attune.evaluate.suites.base import Measured, Subject
    from attune.objectives.base import Objective
    from attune.recipe import Model, Recipe
    from attune.runs import Run
    from attune.train.loop import Progress

__all__ = ["Retention", "refuse"]

SWEEP_TOKENS = 16_384
"""Tokens of validation rows on which each point between the base and the tuned model is measured."""
PROMPTS = ("prompt_tuning", "prefix", "p_tuning")
"""Adapters that leave the base's weights alone and put something before the text."""


def refuse(recipe: Recipe, objective: Objective) -> None:
    """Say at recipe time what of the `retain` section cannot work on this base, adapter or objective.

    Raises: RecipeError.
    """
    retain = recipe.retain
    reason = no_language_model(recipe)
    for key in ("limit", "ewc", "kl"):
        if getattr(retain, key) and reason:
            raise RecipeError(
                f"retain.{key} cannot be kept to: {reason}",
                where=recipe.where(f"retain.{key}"),
                fix=f"drop retain.{key}",
            )
    if retain.base is not None and retain.suites and not reason:
        _check_base(recipe, retain.base)
    if retain.l2_sp and recipe.model.from_config is not None:
        raise RecipeError("retain.l2_sp has nothing to pull to", why=str(reason), fix="drop retain.l2_sp")
    if retain.limit is not None and not retain.suites:
        raise RecipeError("retain.limit has nothing to be measured on", fix="leave retain.suites at its default")
    label = objective.head != "lm"
    if retain.replay is not None and retain.replay.path is None and reason:
        raise RecipeError(
            f"retain.replay needs a path: {reason}",
            where=recipe.where("retain.replay"),
            fix="retain.replay={share: 0.1, path: OLD_ROWS}",
        )
    if retain.kl is not None and label:
        raise RecipeError(
            f"retain.kl cannot be used with objective '{objective.name}'",
            why="a head for labels says nothing that the base says too",
            fix="retain.l2_sp or retain.ewc, or the labels as text: objective=sft",
        )
    for key in ("replay", "kl"):
        if getattr(retain, key) is not None and objective.name == "distill":
            raise RecipeError(
                f"retain.{key} cannot be used with objective 'distill'",
                why="a teacher is followed already, and it scored only the training rows",
                fix="retain.l2_sp, retain.ewc or retain.limit, or objective=sft",
            )
    if retain.replay is not None and label and retain.replay.path is None:
        raise RecipeError(
            f"retain.replay needs a path with objective '{objective.name}'",
            why="the text that comes with attune has no labels",
            fix="retain.replay={share: 0.1, path: OLD_ROWS}, or retain.l2_sp or retain.ewc",
        )
    if retain.replay is not None and recipe.data.sources and recipe.data.mix.batches == "by_task":
        raise RecipeError(
            "retain.replay does not go with data.mix.batches: by_task",
            where=recipe.where("retain.replay"),
            why="a share of every step is replayed, and there every step is of one task alone",
            fix="data.mix.batches=mixed, or name the old rows as one more task of data.path",
        )
    if retain.kl is not None and retain.kl.on == "replay" and retain.replay is None:
        raise RecipeError(
            "retain.kl is asked for on replayed tokens, and nothing is replayed",
            where=recipe.where("retain.kl.on") or recipe.where("retain.kl"),
            fix="retain.replay=0.1 beside it, or retain.kl.on=all",
        )
    check_replay(recipe, objective)
    kind, options = recipe.adapter.name, recipe.adapter.options
    other = [name for name in ("dora", "quantize") if getattr(options, name, None)]
    if retain.ewc and (kind not in ("full", "freeze", "lora") or other):
        raise RecipeError(
            f"retain.ewc does not fit adapter '{kind}'" + (f" with {other[0]}" if other else ""),
            why="its weights are not those of the base, and the base's importances say nothing about them",
            fix="retain.l2_sp, or adapter.type=lora",
        )
    if retain.l2_sp and kind in PROMPTS:
        raise RecipeError(
            f"retain.l2_sp does not fit adapter '{kind}'",
            why="it changes none of the base's weights: without its prompt the model is the base",
            fix="drop retain.l2_sp",
        )


def _check_base(recipe: Recipe, base: Model) -> None:
    """Raises: RecipeError where what is lost cannot be counted from this model."""
    where = recipe.where("retain.base")
    if reason := no_language_model(recipe.model_copy(update={"model": base})):
        raise RecipeError(f"retain.base: nothing can be counted from {base.base}", where=where, why=reason)
    if base.base != recipe.model.base and load_tokenizer(base).get_vocab() != load_tokenizer(recipe.model).get_vocab():
        raise RecipeError(
            f"retain.base {base.base} has another tokenizer than model.base",
            where=where,
            why="the loss of a token says nothing about the loss of another",
            fix="a model of the same family",
        )


class Retention:
    """What of `retain` acts while training. Made with the policy at full precision, before the masters."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        policy: Policy,
        objective: Objective,
        tokenizer: PreTrainedTokenizerBase,
        layout: str,
        *,
        say: Callable[[str], None],
    ):
        self.recipe, self.run, self.policy, self.tokenizer = recipe, run, policy, tokenizer
        self.limit, self.layout = recipe.retain.limit, layout
        self.notes: list[str] = []
        self.pairs = low_rank_pairs(policy)
        self.new: frozenset[str] = frozenset()
        if objective.head != "lm":  # a new head stands outside the trunk; the base does not have it
            inside = {id(parameter) for parameter in policy.trunk.parameters()}
            self.new = frozenset(
                name
                for name, parameter in policy.named_parameters()
                if parameter.requires_grad and id(parameter) not in inside
            )
        self.subject: Subject | None = None
        self.suites: Suites = []
        self.before: dict[str, Measured] = {}
        self.importance: dict[str, Tensor] = {}
        if self.limit is not None or recipe.retain.ewc:
            self.subject = subject_for(language_model(policy, recipe), tokenizer, recipe, layout)
        if recipe.retain.ewc:
            self.importance = self._importance(say)

    @contextmanager
    def _base(self) -> Iterator[Policy]:
        """While it is open, the policy that is given is the base: virtual tokens and updates that do not start at
        nothing are left out. Before the first step only."""
        policy = self.policy
        if policy.virtual_tokens:
            base = Policy(policy.inner, head=policy.head)
            base.fast, base.packs = policy.fast, policy.packs
            yield base.eval()
            return
        if policy.adapter.starts_as_base:
            yield policy
            return
        trains = {parameter: parameter.requires_grad for parameter in policy.parameters()}
        with policy.model.disable_adapter():
            yield policy
        for parameter, wanted in trains.items():  # PEFT decides anew what trains
            parameter.requires_grad_(wanted)

    # measuring -------------------------------------------------------------------------------------------------------

    def begin(self, say: Callable[[str], None]) -> None:
        """Measure the base, in the number format of training, where a limit will be kept to."""
        if self.limit is None or self.subject is None:
            return
        self.suites, _ = halves(retained_suites(self.recipe))
        was_training = self.policy.training
        self.policy.eval()
        if self.recipe.retain.base is not None:
            self.before = ask(self.suites, untouched(self.recipe, self.tokenizer), say)
        else:
            with self._base() as base:
                subject = self.subject
                if subject.policy is self.policy:
                    subject = subject_for(base, self.tokenizer, self.recipe, self.layout)
                self.before = ask(self.suites, subject, say)
        self.policy.train(was_training)
        if not self.before:
            raise RecipeError("retain.limit has nothing to be measured on", why="no retained suite fits this base")

    def figures(self) -> dict[str, float]:
        """Points lost so far by suite, and `retain/drop`, the most that counts (`Lost.counted`)."""
        if not self.before or self.subject is None:
            return {}
        self.subject.__dict__.pop("engine", None)
        found = {}
        counted = []
        for name, after in ask(self.suites, self.subject).items():
            drop = lost(self.before[name], after, n=self.recipe.evaluate.bootstrap, seed=self.recipe.seed)
            found[f"retain/{name}"] = drop.points
            counted.append(drop.counted if math.isfinite(drop.counted) else math.inf)
        return {**found, "retain/drop": min(max(counted), 1e6)}

    # training --------------------------------------------------------------------------------------------------------

    def sources(
        self, prepared: Prepared, objective: Objective, *, batch_tokens: int, say: Callable[[str], None]
    ) -> tuple[Any, Mix | None, NearBase | None]:
        """What training reads, how it is mixed, and the objective with the divergence from the base beside it."""
        store: Any = prepared.stores["train"]
        mix: Mix | None = prepared.mix
        asked, boundary = self.recipe.retain, len(store)
        if asked.replay is not None:
            replayed = replay_store(self.recipe, objective, prepared)
            self._same_replay(replayed.content_hash)
            if self.recipe.data.sources and self.recipe.data.mix.loss_per == "example":
                replayed = evened(replayed)
            store, mix = with_replay(store, mix, replayed, asked.replay.share)
            say(f"replay: {asked.replay.share:.0%} of every step's examples, from {len(replayed):,} old ones")
        if asked.kl is None:
            return store, mix, None
        with self._base() as base:
            store = enrich(
                store,
                base,
                teacher=origin(self.recipe.model),
                cache=self.run.path.parent / ".cache",
                name=COLUMN,
                layout=self.layout,
                pad_id=self.tokenizer.pad_token_id or 0,
                batch_tokens=batch_tokens,
                say=say,
            )
        near = NearBase(objective, asked.kl.strength, on=asked.kl.on, replayed_from=boundary)
        return store, mix, near

    def _same_replay(self, content: str) -> None:
        """A run that is resumed replays what it replayed before.

        Raises: DataError if that changed.
        """
        known = self.run.status.get("replay_hash")
        if known is not None and known != content:
            raise DataError("what is replayed changed since this run began", fix="restore it, or start with --fork")
        self.run.set_status(self.run.status["state"], replay_hash=content)

    def start(self, masters: Masters, *, fresh: bool) -> dict[str, Tensor]:
        """The trained weights as training began. Those of the base are there again at every start; a new head's, which
        may have been fitted, are kept beside the run."""
        asked = self.recipe.retain
        if not (asked.l2_sp or asked.ewc or self.chooses):
            return {}
        found = {name: value.detach().clone() for name, value in masters.weights().items()}
        path = self.run.path / "data" / "start.safetensors"
        if self.new and fresh and self.run.writes:
            save_file({name: found[name].cpu().contiguous() for name in sorted(self.new)}, path)
            fsync(path)  # a checkpoint that is whole needs it
            fsync(path.parent)
        elif self.new and not fresh:
            found |= {name: value.to(found[name].device) for name, value in load_file(path).items()}
        return found

    # pulling ---------------------------------------------------------------------------------------------------------

    def pull(self, start: Mapping[str, Tensor]) -> Pull | None:
        """What is added to each step's gradient; None where nothing is asked for."""
        asked = self.recipe.retain
        if not (asked.l2_sp or asked.ewc):
            return None
        return Pull(
            start, l2_sp=asked.l2_sp, ewc=asked.ewc, importance=self.importance, pairs=self.pairs, free=self.new
        )

    def _importance(self, say: Callable[[str], None]) -> dict[str, Tensor]:
        """The base's diagonal Fisher by the policy's parameter names, from the text to replay and the half of the
        retained texts that choices are made by."""
        assert self.subject is not None
        view, renderer = self.subject.policy, self.subject.renderer
        names = {id(parameter): name for name, parameter in self.policy.named_parameters()}
        wanted = {pair.layer for pair in self.pairs} | {
            name
            for name, parameter in self.policy.named_parameters()
            if parameter.requires_grad and name not in self.new and ".lora_" not in name
        }
        own = {name: names[id(parameter)] for name, parameter in view.named_parameters() if id(parameter) in names}
        chosen = [name for name, known in own.items() if known in wanted]
        suites, _ = halves(retained_suites(self.recipe))
        texts = replay_texts(self.recipe)
        texts += [r.full_text for _, asked in suites if asked.task == "text" for r in asked.records]
        examples = [text_example(renderer, "", text) for text in texts[:256]]
        layout = self.subject.layout
        batches = [collate([example], layout=layout) for example in examples if float(example.weight.sum())]
        found = cached_fisher(
            view,
            batches,
            chosen,
            base=origin(self.recipe.model),
            cache=self.run.path.parent / ".cache",
        )
        say(f"importance of {sum(value.numel() for value in found.values()):,} weights from {len(batches)} texts")
        return {own[name]: value for name, value in found.items()}

    # choosing --------------------------------------------------------------------------------------------------------

    @property
    def chooses(self) -> bool:
        """Whether something is left to decide after training."""
        return self.recipe.retain.chooses

    def settle(
        self,
        masters: Masters,
        start: Mapping[str, Tensor],
        progress: Progress,
        load: Callable[[int], dict[str, Tensor]],
        prepared: Prepared,
        objective: Objective,
        primary: str,
        higher: bool,
        *,
        forwards: dict[str, Any],
        say: Callable[[str], None],
    ) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
        """The step to keep, its weights, and what was tried: checkpoints, and points between them and the base.

        Validation and the retained half to choose by decide; no test row is looked at.
        """
        steps = [progress.best_step or progress.step]
        if self.limit is not None:
            steps += [step for step in (progress.within_step, progress.step) if step and step not in steps]
        device = masters.masters[0].device
        candidates = {step: {name: value.to(device) for name, value in load(step).items()} for step in steps}
        part = some_validation(prepared, tokens=SWEEP_TOKENS)

        def measure(weights: Mapping[str, Tensor]) -> tuple[float | None, float | None]:
            masters.load_weights(dict(weights))
            self.policy.eval()
            with torch.no_grad():
                value = None
                if part is not None:
                    value = quick_figures(self.policy, objective, part, "validation", **forwards).get(
                        f"validation/{primary}"
                    )
                return value, self.figures().get("retain/drop")

        shares = GRID if self.recipe.retain.interpolates else (1.0,)
        points = sweep(candidates, start, self.pairs, measure, shares=shares)
        kept, why = choose(points, limit=self.limit, higher=higher)
        if self.limit is not None and kept.drop is not None and kept.drop > self.limit:
            why += "; strengthen retain.replay, l2_sp or kl, or lower train.learning_rate"
        if progress.pull > 1 and (self.recipe.retain.l2_sp or self.recipe.retain.ewc or self.recipe.retain.kl):
            why += f"; the limit was exceeded on the way, and what pulls back ended {progress.pull:g} times as strong"
        say(why)
        weights = between(start, candidates[kept.step], kept.share, self.pairs)
        facts = {
            "kept": asdict(kept),
            "why": why,
            "points": [asdict(point) for point in points],
            "validation_rows": 0 if part is None else len(part.validation or part.stores["validation"]),
            "figure": primary,
        }
        return kept.step, {name: value.detach().cpu() for name, value in weights.items()}, facts
