"""The stages strung together: plan -> prepare -> train -> evaluate -> report. Used by the command line and Python."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import plugins, stopping
from attune.durable import write_json, write_text
from attune.errors import AttuneError, Interrupted, RecipeError, UsageError
from attune.flow_data import prepare_run
from attune.flow_evaluate import assess_run, evaluate, same_data
from attune.plan.score import Session, plan_run
from attune.recipe import Recipe
from attune.runs import Run
from attune.show import Show

if TYPE_CHECKING:
    from attune.data.prepare import Read
    from attune.data.prepared import Prepared
    from attune.model.parallel import Parallel
    from attune.train.stage import Trained

__all__ = ["run", "train", "work", "evaluate"]


def run(
    data: str | Path,
    *,
    goal: str | None = None,
    budget: str | None = None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    target: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    out: str | Path = "runs",
    show: Show | None = None,
) -> Run:
    """From a data file to a tuned model and its report, without a recipe: attune chooses one and leaves it in the run.

    `goal` is the task in the user's words; `budget` the time for everything, such as `10m`. The run is rehearsed before
    it starts: what it will take is predicted, made to fit the budget, and held against what it took.
    Raises: AttuneError of every kind, each with its fix.
    """
    from attune.plan.choose import choose

    session = Session(budget)
    show = show or Show()
    show.stage("plan")
    chosen = choose(
        str(data),
        goal=goal,
        budget=budget,
        test=str(test) if test else None,
        validation=str(validation) if validation else None,
        target=target,
        overrides=overrides,
    )
    for line in chosen.lines():
        show.say(line)
    return _start(chosen.recipe, Path(out), session=session, plan=True, show=show)


def train(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    out: str | Path = "runs",
    fork: bool = False,
    assess: bool = True,
    plan: bool = False,
    budget: str | None = None,
    found: Read | None = None,
    show: Show | None = None,
) -> Run:
    """Run a recipe to the end: prepare, train, save, evaluate, report. An unfinished run of the same recipe goes on.

    `out` is the folder that holds runs; `fork` starts a new numbered run where the name is taken by another recipe;
    `assess=False` stops after saving the model; `found` is data that was read and divided before. `plan` rehearses the
    run first: what it will take is predicted, and the report holds it against what it took; `budget` (with `plan`) is
    the time for everything from now on.
    """
    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    for notice in recipe.notices:
        show.say(notice)
    if recipe.stages:
        from attune.flow_stages import train_stages

        if budget is not None:
            raise UsageError(
                "a run in stages has no budget of its own",
                why="what one stage may take of it is not known before the others ran",
                fix="a train.budget for each stage",
            )
        return train_stages(recipe, Path(out), fork=fork, assess=assess, plan=plan, show=show)
    return _start(
        recipe, Path(out), session=Session(budget), fork=fork, assess=assess, found=found, plan=plan, show=show
    )


def _start(
    recipe: Recipe,
    out: Path,
    *,
    session: Session,
    plan: bool,
    show: Show,
    fork: bool = False,
    assess: bool = True,
    found: Read | None = None,
) -> Run:
    """Open the recipe's run and do what is left of it."""
    parallel = _ranks()
    if parallel is not None and not parallel.main:
        show = Show()
        parallel.barrier()  # until the first rank has made the run and prepared its data
    run, recipe = _open(recipe, out, fork=fork)
    run.writes = parallel is None or parallel.main
    if run.status["state"] == "done":
        show.say(f"{run.path} is finished; nothing to do (another name, or --fork, makes a new run)")
        return run
    return work(run, recipe, assess=assess, show=show, parallel=parallel, found=found, session=session, plan=plan)


def work(
    run: Run,
    recipe: Recipe,
    *,
    assess: bool,
    show: Show,
    parallel: Parallel | None,
    found: Read | None = None,
    session: Session | None = None,
    plan: bool = False,
) -> Run:
    """Do what is left of an opened run; whatever ends it stands in its status. `plan` rehearses it first."""
    session = session or Session()
    run.lock()
    try:
        if plan and parallel is None:
            recipe = plan_run(run, recipe, session, show=show)
        elif plan:
            show.say("not rehearsed, so nothing is predicted: a rehearsal runs alone, and this run has several ranks")
        _train(run, recipe, assess=assess, show=show, parallel=parallel, found=found, session=session)
    except Interrupted as error:
        run.set_status("interrupted", why=error.what)
        error.fix = "run the same command again: it goes on from there"
        raise
    except AttuneError as error:
        state = "interrupted" if stopping.received else "diverged" if error.exit_code == 6 else "failed"
        run.set_status(state, why=error.what)
        raise
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, KeyboardInterrupt) or stopping.received:
            run.set_status("interrupted", why="stopped outside training steps")
        else:
            run.set_status("failed", why=f"internal error: {type(error).__name__}: {error}")
        raise
    finally:
        run.unlock()
    return run


def _ranks() -> Parallel | None:
    """This process's place among the ranks that `torchrun` started; None where it runs alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from attune.model.parallel import Parallel

    return Parallel()


def _open(recipe: Recipe, out: Path, *, fork: bool) -> tuple[Run, Recipe]:
    """The run directory of a recipe: a new one, or the one that it left unfinished (with the recipe frozen there)."""
    asked = recipe.fingerprint()
    name, number = recipe.run_name, 1
    while (path := out / (name if number == 1 else f"{name}-{number}")).joinpath("status.json").exists():
        run = Run(path)
        if run.status.get("asked") == asked:
            return run, Recipe.load(path / "recipe.yaml")
        if recipe.name is not None and not fork:
            raise UsageError(
                f"{path} holds a run of a different recipe",
                fix=f"--fork makes {path}-2, or choose another name; to continue that one, use its own recipe",
            )
        number += 1
    return Run.create(path, recipe.dump(), asked=asked), recipe


def _train(
    run: Run,
    recipe: Recipe,
    *,
    assess: bool,
    show: Show,
    parallel: Parallel | None,
    found: Read | None,
    session: Session,
) -> None:
    from attune.model.load import fingerprint, load_tokenizer
    from attune.model.save import save_model
    from attune.train.stage import train_stage
    from attune.train.teacher import taught

    tokenizer = load_tokenizer(recipe.model)
    if not (run.model_dir / "manifest.json").exists():
        show.stage("prepare")
        prepared, objective, recipe = prepare_run(recipe, tokenizer, run=run, show=show, found=found)
        data_hash = same_data(run, prepared)
        run.set_status("prepared", data_hash=data_hash)
        prepared = taught(recipe, prepared, objective, tokenizer, cache=run.path.parent / ".cache", say=show.say)
        examples = "".join(store.content_hash for store in prepared.stores.values())  # with what a teacher says of them
        if parallel is not None and parallel.main:
            parallel.barrier()
        base = "" if recipe.model.from_config else json.dumps(fingerprint(recipe.model.base))

        def identity(frozen: Recipe) -> str:
            return hashlib.sha256(f"{frozen.fingerprint()}{examples}{base}".encode()).hexdigest()

        _check_resume(run, identity(recipe))
        show.stage("train")
        trained = train_stage(
            recipe,
            run,
            prepared,
            objective,
            tokenizer,
            parallel=parallel,
            freeze=lambda frozen: write_text(run.path / "recipe.yaml", frozen.dump()) if run.writes else None,
            fingerprint=identity,
            watch=show.step,
            say=show.say,
        )
        if not run.writes:
            return
        write_json(run.path / "data" / "training.json", trained.facts)
        recipe = Recipe.load(run.path / "recipe.yaml")
        show.stage("save")
        save_model(
            run.model_dir,
            recipe,
            objective,
            tokenizer,
            trained.weights,
            stop_ids=list(prepared.renderer.stop_ids) if objective.head == "lm" else [],
            steps=prepared.manifest.get("prepared", {}).get("states", []),
            card=_card(run, recipe, prepared, trained),
        )
    else:
        prepared, objective, recipe = prepare_run(recipe, tokenizer, run=run, show=show, found=found)
    if assess:
        assess_run(run, recipe, prepared, objective, tokenizer, show=show, session=session)
    facts = json.loads((run.path / "data" / "training.json").read_text())
    run.set_status("budget" if facts["stopped"] == "budget" else "done")


def _check_resume(run: Run, identity: str) -> None:
    """A checkpoint may only be continued by the recipe, data and base that wrote it."""
    from attune.train import checkpoint

    found, _ = checkpoint.latest(run.path / "checkpoints")
    if found is not None and found.fingerprint != identity:
        raise RecipeError(
            f"{run.path} has checkpoints of another recipe, data or base",
            fix="restore them, or start a new run with --fork",
        )


def _opening(labels: list[str], head: str) -> list[str]:
    """How to open an adapter with PEFT alone; a label head needs to know how many labels there are."""
    kind = {"lm": "CausalLM", "sequence": "SequenceClassification", "token": "TokenClassification"}[head]
    names = f", num_labels={max(1, len(labels))}" if head != "lm" else ""
    return [f"`peft.AutoPeftModelFor{kind}.from_pretrained(folder{names})` opens it where the base is at hand.", ""]


def _share(facts: dict[str, Any]) -> str:
    """How far from the base to that step the saved weights lie, where it is not all the way."""
    kept = facts.get("retain", {}).get("kept")
    return "" if not kept or kept["share"] == 1 else f", {kept['share']:g} of the way from the base"


def _card(run: Run, recipe: Recipe, prepared: Prepared, trained: Trained) -> str:
    """The model card: what it is, from what, and where the proof lies."""
    from attune.model.save import saved_alone

    facts = trained.facts
    licences = sorted({str(source.get("licence")) for source in prepared.manifest["sources"] if source.get("licence")})
    adapter: Any = plugins.get("adapter", recipe.adapter.name)(recipe.adapter.options)  # type: ignore[call-arg]
    plugin: Any = plugins.get("objective", recipe.objective.name)
    head: str = plugin(recipe.objective.options, task=prepared.task).head  # may depend on the task
    alone = saved_alone(adapter, head) and recipe.model.layers is None
    front = [
        "---",
        f"base_model: {recipe.model.base}",
        f"library_name: {'peft' if alone else 'transformers'}",
        "tags: [attune, " + recipe.objective.name + "]",
        "---",
    ]
    return "\n".join(
        [
            *front,
            f"# {run.path.name}",
            "",
            f"`{recipe.model.base}` tuned with attune: objective `{recipe.objective.name}`, "
            f"adapter `{recipe.adapter.name}` ({facts['trained_weights']:,} of "
            f"{facts['weights']:,} weights), {facts['steps']} steps "
            f"({facts['epochs']:g} epochs), learning rate {facts['learning_rate']:g}, step {trained.step} "
            f"kept{_share(facts)}.",
            "",
            f"Data: {prepared.manifest['splits']['train']} training rows"
            + (
                f"; licences of the sources: {', '.join(licences)}"
                if licences
                else "; no licence was stated beside the sources"
            )
            + ".",
            "",
            *(_opening(prepared.labels, head) if alone else []),
            "What it is worth, against which baselines, stands in the run's report.html.",
            "",
        ]
    )
