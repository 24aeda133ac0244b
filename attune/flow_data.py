"""The data side of the flow: what a run trains on, and `prepare` and `audit` for data alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import plugins
from attune.durable import write_json, write_text
from attune.errors import RecipeError
from attune.recipe import Recipe
from attune.runs import Run
from attune.show import Show

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data import desk
    from attune.data.prepare import Read
    from attune.data.prepared import Prepared
    from attune.objectives.base import Objective

__all__ = ["SUPPRESSION", "prepare", "audit", "prepare_run", "data_key", "rehearse"]

OBJECTIVE_OF = {
    "classification": "classify",
    "multilabel": "classify",
    "regression": "classify",
    "tagging": "tag",
    "generation": "sft",
    "text": "pretrain",
}


USUAL_STEPS = (
    "control_characters",
    "unicode",
    "whitespace",
    "missing",
    "labels",
    "exact_duplicates",
    "normalised_duplicates",
    "conflicts",
)
"""What `prepare` does where `data.prepare` names nothing: only what is safe on any data, where it fits the task."""


SUPPRESSION = "suppression.json"
"""The list of forgotten people beside prepared data, which `prepare` reads by itself."""


def prepare(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    out: str | Path = "prepared",
    accept: Iterable[str] = (),
    show: Show | None = None,
) -> desk.Prepared:
    """Clean, redact, filter and divide data as the `data` section of a recipe says, with a ledger and an audit page.

    `out` keeps prepared data by address: the same data and steps give the same folder. `accept` names steps whose
    question (a proposed merge of labels, say) is answered with yes.
    Raises: DataError with file:line:column.
    """
    from attune.data import audit
    from attune.data.prepare import accepted, read

    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    root = Path(out)
    root.mkdir(parents=True, exist_ok=True)
    show.stage("prepare")
    if recipe.data.suppression is None and (root / SUPPRESSION).exists():
        recipe = recipe.replace({"data.suppression": str(root / SUPPRESSION)})
    ledger = root / ".splits" / f"{data_key(recipe)}.jsonl"
    ledger.parent.mkdir(exist_ok=True)

    def once(recipe: Recipe) -> Read:
        return read(
            recipe, prepared=root, ledger=ledger, rejects=root / ".rejects.jsonl", usual=USUAL_STEPS, say=show.say
        )

    found = once(recipe)
    for line in found.notices:
        show.say(line)
    show.say(found.manifest["split"]["summary"])
    if wanted := list(accept):
        recipe = accepted(recipe, found.manifest["prepared"]["steps"], wanted)
        found = once(recipe)
    made = found.prepared
    assert made is not None  # there are steps
    show.stage("audit")
    result = audit.audit(made.parts, found.task, manifest=found.manifest)
    audit.write_page(result, made.folder)
    # no path of this machine and no clock: the folder's files depend on the data and the steps alone
    manifest = {key: value for key, value in found.manifest.items() if key not in ("seconds", "prepared")}
    manifest["split"] = {key: value for key, value in manifest["split"].items() if key != "ledger"}
    write_json(made.folder / "manifest.json", manifest)
    return made


def audit(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    out: str | Path = "audit",
    show: Show | None = None,
) -> dict[str, Any]:
    """What stands in the data as it is: balance, lengths, wrong labels, groups, short cuts, split. Changes nothing.

    Writes `audit.html` and `audit.json` into `out` and returns the latter.
    """
    from attune.data import audit
    from attune.data.prepare import read

    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    show.stage("audit")
    found = read(recipe.replace({"data.prepare": []}), prepared=folder, say=show.say)
    parts = {"train": found.split.train, "validation": found.split.validation, "test": found.split.test}
    result = audit.audit(parts, found.task, manifest=found.manifest)
    audit.write_page(result, folder)
    return result


def prepare_run(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    *,
    run: Run,
    show: Show | None = None,
    teach: bool = True,
    found: Read | None = None,
) -> tuple[Prepared, Objective, Recipe]:
    """Read, divide and tokenise a run's data; returns it with the objective and the recipe as now decided.

    `teach=False` leaves the data's own answers where a teacher would write others (`objective.mode: sequence`).
    `found` is data that was read and divided before: the trials of a search share it, without its test part.
    """
    from attune.data.corpus_stage import prepare_corpus
    from attune.data.prepare import read
    from attune.data.prepared import render
    from attune.data.templating import common_words, schema_of, template_of
    from attune.evaluate.measure import check_figures
    from attune.evaluate.suites.compared import load_suites
    from attune.model.heads import check_recipe
    from attune.model.load import load_config
    from attune.train.answers import answered
    from attune.train.retention import refuse
    from attune.train.teacher import check_teacher

    show = show or Show()
    config = load_config(recipe.model)
    check_recipe(recipe, config)
    schema_of(recipe)
    load_suites(recipe.retain.suites)
    load_suites(recipe.evaluate.suites)  # a file that cannot be read is told before training, not after
    check_teacher(recipe, tokenizer)
    if recipe.objective.name == "pretrain" or (recipe.objective.name == "auto" and recipe.data.task == "text"):
        recipe = recipe.replace({"objective": {"name": "pretrain"}, "data.task": "text"})
        objective = _objective(recipe, [], "text")
        cache = run.path.parent / ".cache"
        if recipe.data.sources:
            prepared, length = _corpora(recipe, tokenizer, cache=cache)
        else:
            prepared, length = prepare_corpus(recipe, tokenizer, cache=cache)
    elif recipe.data.sources:
        prepared, length, recipe = _tasks(recipe, tokenizer, run=run, show=show)
        objective = _objective(recipe, prepared.labels, prepared.task)
    else:
        ledgers = run.path.parent / ".splits"
        ledgers.mkdir(parents=True, exist_ok=True)
        (run.path / "data").mkdir(exist_ok=True)
        found = found or read(
            recipe,
            prepared=run.path.parent / ".prepared",
            ledger=ledgers / f"{data_key(recipe)}.jsonl",
            rejects=run.path / "data" / "rejects.jsonl",
            say=show.say,
        )
        for line in found.notices:
            show.say(line)
        if recipe.objective.name == "auto":
            recipe = recipe.replace({"objective": {"name": OBJECTIVE_OF[found.task]}})
        recipe = recipe.replace({"data.task": found.task})
        if found.task == "generation":
            recipe = recipe.replace({"data.template": template_of(found.split.train)})
            if recipe.data.instruction is None:
                words = common_words(found.split.train, brief=config.is_encoder_decoder)
                recipe = recipe.replace({"data.instruction": words})
        found = answered(recipe, found, run, say=show.say) if teach else found
        check_recipe(recipe, config)
        prepared, length = render(
            recipe,
            found,
            tokenizer,
            lambda labels, task: _objective(recipe, labels, task),
            config=config,
        )
        objective = _objective(recipe, prepared.labels, prepared.task)
    refuse(recipe, objective)
    check_figures(recipe, {one.task for one in prepared.tasks.values()} or {prepared.task}, objective.head)
    recipe = recipe.replace({"data.max_length": length})
    data = run.path / "data"
    data.mkdir(exist_ok=True)
    preview = prepared.show(3)
    if run.writes:
        write_json(data / "manifest.json", prepared.manifest)
        write_text(data / "preview.txt", preview)
        write_text(run.path / "recipe.yaml", recipe.dump())
    show.say(prepared.manifest["split"]["summary"])
    show.preview(preview)
    return prepared, objective, recipe


def _tasks(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, *, run: Run, show: Show) -> tuple[Prepared, int, Recipe]:
    """The data of several tasks, and the recipe with what was decided about each."""
    from attune.data.tasks import read_tasks, render_tasks
    from attune.model.heads import check_recipe, writes
    from attune.model.load import load_config

    ledgers = run.path.parent / ".splits"
    ledgers.mkdir(parents=True, exist_ok=True)
    (run.path / "data").mkdir(exist_ok=True)
    found = read_tasks(
        recipe,
        prepared=run.path.parent / ".prepared",
        ledger=lambda own: ledgers / f"{data_key(own)}.jsonl",
        rejects=run.path / "data" / "rejects.jsonl",
        say=show.say,
    )
    for one in found.values():
        for line in one.notices:
            show.say(line)
    config = load_config(recipe.model)
    kinds = {one.task for one in found.values()}
    if recipe.objective.name == "auto":
        alike = len(kinds) == 1 and not (writes(config) and len(found) > 1)
        recipe = recipe.replace({"objective": {"name": OBJECTIVE_OF[kinds.pop()] if alike else "sft"}})
    check_recipe(recipe, config)
    return render_tasks(
        recipe,
        found,
        tokenizer,
        lambda labels, task: _objective(recipe, labels, task),
        config=config,
    )


def _corpora(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, *, cache: Path) -> tuple[Prepared, int]:
    """Several bodies of text, with how they share the steps."""
    from attune.data.corpus_stage import LENGTH, prepare_corpus
    from attune.data.tasks import join_tasks, recipe_of

    length = recipe.data.max_length or LENGTH
    recipe = recipe.replace({"data.max_length": length})
    subs = {
        source.title: prepare_corpus(recipe_of(recipe, source), tokenizer, cache=cache)[0]
        for source in recipe.data.sources
    }
    return join_tasks(recipe, subs), length


def rehearse(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    n: int = 3,
    show: Show | None = None,
) -> str:
    """Everything before the first step, in a scratch folder: recipe, data, preflight. Returns n examples as text."""
    import tempfile

    from attune.model.load import load_tokenizer

    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    for notice in recipe.notices:
        show.say(notice)
    if recipe.stages:
        first, *later = recipe.stage_recipes
        stages = [first, *(stage.replace({"model.base": first.model.base}) for stage in later)]
        return "\n".join(rehearse(stage, n=n, show=show) for stage in stages)
    with tempfile.TemporaryDirectory(prefix="attune-") as scratch:
        run = Run.create(Path(scratch) / "rehearsal", recipe.dump())
        show.stage("prepare")
        prepared, _, _ = prepare_run(recipe, load_tokenizer(recipe.model), run=run, show=show, teach=False)
        return prepared.show(n)


def data_key(recipe: Recipe) -> str:
    """Names the split ledger: one per data source and way of splitting it."""
    data = recipe.data
    facts = [
        [str(Path(path).resolve()) for path in data.paths],
        data.split.model_dump(),
        recipe.seed,
        data.test,
        data.validation,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return f"{Path(data.paths[0]).name.split('.')[0]}-{digest}"


def _objective(recipe: Recipe, labels: list[str], task: str) -> Objective:
    plugin: Any = plugins.get("objective", recipe.objective.name)
    if task not in plugin.tasks:
        fitting = [name for name, other in plugins.find("objective").items() if task in other.tasks]  # type: ignore[attr-defined]
        raise RecipeError(
            f"objective '{plugin.name}' does not train on {task} data",
            where=recipe.where("objective.name"),
            fix=f"use {' or '.join(fitting)}, or leave objective: auto",
        )
    return plugin(recipe.objective.options, labels=labels, task=task)
