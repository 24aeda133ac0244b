"""One run from its opening to its report: what is left of it is done, and whatever ends it stands in its status."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from attune import plugins, stopping
from attune.durable import write_json, write_text
from attune.errors import AttuneError, Interrupted, RecipeError
from attune.flow_data import prepare_run
from attune.flow_evaluate import assess_run, same_data
from attune.plan.score import Session, plan_run
from attune.recipe import Recipe
from attune.runs import Run
from attune.show import Show

if TYPE_CHECKING:
    from attune.data.prepare import Read
    from attune.data.prepared import Prepared
    from attune.model.parallel import Parallel
    from attune.train.stage import Trained

__all__ = ["work"]


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
