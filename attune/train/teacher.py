"""The teacher of a distillation: a finished run, a base, or a server; asked once, before training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.data.mix import Joined
from attune.errors import RecipeError
from attune.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.batch import Loader
    from attune.data.prepared import Prepared
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.recipe import Recipe

__all__ = ["Teacher", "teacher_of", "check_teacher", "taught", "live"]

Say = Callable[[str], None]
ASKED_AT_ONCE = 512


@dataclass
class Teacher:
    """A run folder or a base as a teacher: nothing is loaded until it is asked."""

    where: str

    @property
    def run(self) -> Path | None:
        """The run folder behind it (of a run in stages the last finished stage's); None for a base."""
        from attune.model.earlier import run_behind

        return run_behind(self.where)

    @property
    def model(self) -> Any:
        """The `model` section that its tokenizer and base are loaded by."""
        from attune.recipe import Model, Recipe

        return Model(base=self.where) if self.run is None else Recipe.load(self.run / "recipe.yaml").model

    @property
    def manifest(self) -> dict[str, Any]:
        """What a run says of its model.

        Raises: RecipeError if it has none yet.
        """
        assert self.run is not None
        path = self.run / "model" / "manifest.json"
        if not path.exists():
            raise RecipeError(
                f"objective.teacher {self.where} has no model yet", fix=f"finish it first: attune show {self.where}"
            )
        return json.loads(path.read_text())

    @property
    def fingerprint(self) -> str:
        """SHA-256 over its weights."""
        from attune.model.load import fingerprint

        run = self.run
        facts: Any = fingerprint(self.where) if run is None else [self.manifest, fingerprint(str(run / "model"))]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def tokenizer(self) -> PreTrainedTokenizerBase:
        from attune.model.load import load_tokenizer

        return load_tokenizer(self.model)

    def tuned(self) -> Any:
        """The run's model, ready to answer."""
        from attune.tuned import load

        return load(self.where)

    def policy(self) -> tuple[Policy, str]:
        """The language model in evaluation mode, and the layout that it can score."""
        import torch

        from attune.model.load import load_model, torch_dtype
        from attune.model.policy import Policy

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.run is not None:
            tuned = self.tuned()
            policy, layout = tuned.policy, tuned.layout
        else:
            policy = Policy(load_model(self.model, head="lm"), head="lm").to(device)
            layout = policy.settle()
        for parameter in policy.parameters():
            parameter.requires_grad_(False)
        policy.to(torch_dtype(self.model) if device == "cuda" else torch.float32)
        return policy.eval(), layout


def teacher_of(recipe: Recipe) -> Teacher | None:
    """The teacher of a distillation from a run or a base; None for a server's, a recipe's and for other objectives."""
    options: Any = recipe.objective.options
    if (
        recipe.objective.name != "distill"
        or options.endpoint is not None
        or options.teacher.endswith((".yaml", ".yml"))
    ):
        return None
    return Teacher(options.teacher)


def check_teacher(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """Whether the teacher can teach this, found out before anything is read or loaded.

    Raises: RecipeError with the reason: it does not exist, is not finished, gives labels where text is learned (or the
    other way round), or its tokens mean something else.
    """
    options: Any = recipe.objective.options
    if recipe.objective.name != "distill":
        return
    _check_tasks(recipe, options.mode)
    if options.endpoint is not None:
        return
    teacher, where = Teacher(options.teacher), recipe.where("objective.teacher")
    if options.teacher.endswith((".yaml", ".yml")):
        raise RecipeError(
            f"objective.teacher {options.teacher} is a recipe, not a trained model",
            where=where,
            fix="attune distill RECIPE trains it first; or name its run folder",
        )
    if teacher.run is None:
        from attune.model.load import resolve

        try:
            resolve(options.teacher)
        except RecipeError as error:
            raise RecipeError(
                f"objective.teacher '{options.teacher}' was not found",
                where=where,
                why="no run folder, no model folder, no bundled base, and not a hub id like org/name",
                fix="name the folder of a finished run",
            ) from error
        return
    if options.mode != "logits" or recipe.data.task != "auto":
        _same_answers(teacher, writes=options.mode != "logits" or recipe.data.task == "generation", where=where)


def _check_tasks(recipe: Recipe, mode: str) -> None:
    """Raises: RecipeError where a mode cannot serve several tasks."""
    if recipe.data.sources and mode == "sequence":
        raise RecipeError(
            "a teacher writes answers for one body of data, and data.path lists several tasks",
            where=recipe.where("objective.mode"),
            fix="objective.mode=logits, or one run for each task",
        )
    if recipe.data.sources and mode == "on_policy" and recipe.data.mix.loss_per == "example":
        raise RecipeError(
            "objective.mode on_policy does not go with data.mix.loss_per: example",
            where=recipe.where("data.mix.loss_per"),
            why="what the student writes counts by the token",
            fix="data.mix.loss_per=token, or objective.mode=logits",
        )


def _same_answers(teacher: Teacher, *, writes: bool, where: str | None) -> None:
    """Raises: RecipeError where a run that gives labels should teach text, or the other way round."""
    if (teacher.manifest["head"] == "lm") == writes:
        return
    gives, learned = ("labels", "text") if writes else ("text", "labels")
    raise RecipeError(
        f"the teacher {teacher.where} gives {gives}, and this student learns {learned}",
        where=where,
        fix=f"name a run that was tuned for {learned}",
    )


def _same_tokens(teacher: Teacher, tokenizer: PreTrainedTokenizerBase, mode: str, where: str | None) -> None:
    """Raises: RecipeError where a token of the student is another one, or none, for the teacher."""
    own, others = tokenizer.get_vocab(), teacher.tokenizer().get_vocab()
    different = [token for token, number in own.items() if others.get(token) != number]
    if different:
        raise RecipeError(
            f"the teacher {teacher.where} has another tokenizer than the student",
            where=where,
            why=f"{len(different):,} of {len(own):,} tokens differ, the first is {min(different)!r}; mode {mode} "
            "compares probabilities token by token",
            fix="objective.mode=sequence (the teacher writes answers; any tokenizer), or a student of the same family",
        )


def _same_kind(recipe: Recipe, teacher: Teacher) -> None:
    """Raises: RecipeError where one reads and writes apart (encoder-decoder) and the other does not."""
    from attune.model.load import load_config

    kinds = [bool(load_config(model).is_encoder_decoder) for model in (recipe.model, teacher.model)]
    mode = recipe.objective.options.mode  # type: ignore[attr-defined]
    if kinds[0] != kinds[1] or (kinds[0] and mode == "on_policy"):
        raise RecipeError(
            f"objective.mode {mode} does not fit this student and teacher",
            where=recipe.where("objective.mode"),
            why="on-policy answers are written by decoders only" if kinds[0] == kinds[1] else
            "one is an encoder-decoder and the other is not: they do not score the same positions",
            fix="objective.mode=sequence",
        )  # fmt: skip


# probabilities -------------------------------------------------------------------------------------------------------


def taught(
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    *,
    cache: Path,
    say: Say = lambda line: None,
) -> Prepared:
    """The training and validation examples with what the teacher says of them; unchanged for other objectives.

    Kept in `cache` by content. Raises: RecipeError if the teacher does not fit.
    """
    if recipe.objective.name != "distill":
        return prepared
    options: Any = recipe.objective.options
    if options.mode == "sequence":
        return prepared
    teacher, where = Teacher(options.teacher), recipe.where("objective.teacher")
    parts: list[str] = [name for name in ("train", "validation") if name in prepared.stores]
    if teacher.run is not None:
        _same_answers(teacher, writes=objective.head == "lm", where=where)
    if objective.head == "lm":
        _same_tokens(teacher, tokenizer, options.mode, where)
        _same_kind(recipe, teacher)
        return _token_scores(recipe, prepared, objective, tokenizer, teacher, parts, cache, say)
    if teacher.run is None:
        raise RecipeError(
            f"objective.teacher {options.teacher} is a base without the labels",
            where=where,
            fix="tune it on this data first, and name its run folder",
        )
    manifest = teacher.manifest
    missing = sorted(set(objective.labels) ^ set(manifest["labels"]))
    if manifest["task"] != objective.task or missing:
        raise RecipeError(
            f"the teacher {teacher.where} does not answer with the labels of this data",
            where=where,
            why=f"its task is {manifest['task']}" if manifest["task"] != objective.task else
            f"only one side has {', '.join(missing[:5])}",
            fix="tune the teacher on the same data",
        )  # fmt: skip
    if objective.head == "token":
        _same_tokens(teacher, tokenizer, options.mode, where)
    stores = dict(prepared.stores)
    for part in parts:
        if not prepared.tasks:
            stores[part] = _label_scores(stores[part], getattr(prepared, part), teacher, objective, cache, say)
            continue
        having = [one for one in prepared.tasks.values() if part in one.stores]
        scored = [
            _label_scores(store, getattr(one, part), teacher, objective, cache, say)
            for one, store in zip(having, stores[part].stores, strict=True)
        ]
        stores[part] = Joined(scored)
    return replace(prepared, stores=stores)


def _token_scores(
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    teacher: Teacher,
    parts: list[str],
    cache: Path,
    say: Say,
) -> Prepared:
    from attune.model.load import load_config
    from attune.train.enrich import enrich

    options: Any = recipe.objective.options
    policy, layout = teacher.policy()
    if policy.seq2seq != bool(load_config(recipe.model).is_encoder_decoder):
        raise RecipeError(
            f"the teacher {teacher.where} reads in another way than the student",
            where=recipe.where("objective.teacher"),
            why="one is an encoder-decoder and the other a decoder alone",
            fix="objective.mode=sequence (the teacher writes answers), or a teacher of the same kind",
        )
    stores = dict(prepared.stores)
    for part in parts:
        stores[part] = enrich(
            stores[part],
            policy,
            teacher=teacher.fingerprint,
            cache=cache,
            k=options.k,
            temperature=objective.temperature,  # type: ignore[attr-defined]
            layout=layout,
            pad_id=tokenizer.pad_token_id or 0,
            vocab=load_config(recipe.model).get_text_config().vocab_size,
            say=say,
        )
    return replace(prepared, stores=stores)


def _label_scores(
    store: Any, records: Sequence[Record], teacher: Teacher, objective: Objective, cache: Path, say: Say
) -> Any:
    """The store with the column `teacher_out`: the teacher's logits (or numbers), labels in the student's order."""
    facts = [store.content_hash, teacher.fingerprint, objective.labels]
    if objective.head != "token":
        facts.append(hashlib.sha256("\0".join(record.text for record in records).encode()).hexdigest())
    path = cache / f"labels-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.npy"
    if not path.exists():
        tuned = teacher.tuned()
        out = _word_logits(tuned, store) if objective.head == "token" else _logits(tuned, records)[store.records]
        if objective.task != "regression":
            out = out[:, [tuned.labels.index(label) for label in objective.labels]]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        with open(partial, "wb") as file:
            np.save(file, out.astype(np.float32), allow_pickle=False)
        partial.rename(path)
        say(f"teacher: {len(out):,} examples labelled by {teacher.where}")
    return store.with_columns({"teacher_out": np.load(path, mmap_mode="r", allow_pickle=False)})


def _logits(tuned: Any, records: Sequence[Record]) -> np.ndarray:
    """What a classifier says of texts, as it reads them itself. Shapes: [N, C], logits up to a constant a row."""
    parts = []
    for start in range(0, len(records), ASKED_AT_ONCE):
        found = tuned.predict([record.text for record in records[start : start + ASKED_AT_ONCE]])
        if tuned.task == "regression":
            parts.append(np.array(found.outputs)[:, None])
            continue
        chance = np.clip(found.scores, 1e-12, 1 - 1e-12 if tuned.task == "multilabel" else 1)
        parts.append(np.log(chance) - (np.log1p(-chance) if tuned.task == "multilabel" else 0))
    return np.concatenate(parts)


def _word_logits(tuned: Any, store: Any) -> np.ndarray:
    """What a tagger says at each scored token of the student's own examples. Shapes: [M, C]."""
    from attune.evaluate.predict import score_store

    pad = tuned.tokenizer.pad_token_id or 0
    return score_store(tuned.policy, tuned.objective.hard if hasattr(tuned.objective, "hard") else tuned.objective,
                       store, layout=tuned.layout, pad_id=pad, batch_tokens=4096)[1]["out"]  # fmt: skip


# in the loop ---------------------------------------------------------------------------------------------------------


def live(
    recipe: Recipe, loader: Loader, policy: Policy, prepared: Prepared, tokenizer: PreTrainedTokenizerBase, world: int
) -> Loader:
    """The loader, or for on-policy distillation one whose steps are in part what the student writes.

    Raises: RecipeError on several ranks.
    """
    options: Any = recipe.objective.options
    if recipe.objective.name != "distill" or options.mode != "on_policy":
        return loader
    if world > 1:
        raise RecipeError(
            "objective.mode on_policy runs in one process",
            why="ranks that write different answers would run different numbers of forwards",
            fix="start it without torchrun, or use mode logits or sequence",
        )
    from attune.generate.engine import Engine
    from attune.model.load import load_config
    from attune.train.on_policy import OnPolicy

    teacher, layout = Teacher(options.teacher).policy()
    sampled = 1.0 if options.sampling_temperature is None else options.sampling_temperature
    engine = Engine(
        policy.model, tokenizer, stop_ids=list(prepared.renderer.stop_ids), device=next(policy.parameters()).device
    )
    found: Any = OnPolicy(
        loader,
        engine,
        teacher,
        share=options.own_share,
        k=options.k,
        warmth=options.temperature or 1.0,
        sampling_temperature=sampled,
        max_new_tokens=options.max_new_tokens,
        packs=layout == "packed",
        vocab=load_config(recipe.model).get_text_config().vocab_size,
    )
    return found
