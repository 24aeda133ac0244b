"""The suites of a recipe: read before training, so that a bad file stops nothing later; measured before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attune import plugins
from attune.errors import RecipeError
from attune.evaluate.suites.base import Measured, Questions, Subject, Suite, change, measure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.evaluate.results import SuiteRow
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.recipe.retain import SuiteChoice
    from attune.records import Record
    from attune.runs import Run

__all__ = ["load_suites", "subject_of", "compare_suites", "suite_figures"]


def load_suites(choices: Sequence[SuiteChoice]) -> list[tuple[Suite, Questions]]:
    """The suites with their questions.

    Raises: DataError or MachineError if one cannot be read; RecipeError if two have one name.
    """
    found: dict[str, tuple[Suite, Questions]] = {}
    for choice in choices:
        plugin: Any = plugins.get("suite", choice.name)
        suite = plugin(choice.options)
        if suite.label in found:
            raise RecipeError(f"two suites are called '{suite.label}'", fix="give one of them a title")
        found[suite.label] = (suite, suite.load())
    return list(found.values())


def subject_of(
    model: Any, head: str, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, objective: Objective | None
) -> Subject:
    """A loaded model, ready to be asked."""
    from attune.data.seq2seq import renderer_for
    from attune.evaluate.systems import placed

    policy, layout = placed(model, head, recipe)
    renderer = renderer_for(
        tokenizer,
        policy.config,
        template=recipe.model.chat_template,
        max_length=recipe.data.max_length or 512,
        truncate="left" if head == "lm" else "window",
    )
    return Subject(policy, tokenizer, renderer, layout, recipe.evaluate, objective=objective, seed=recipe.seed)


def compare_suites(
    run: Run,
    recipe: Recipe,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    trained_on: Sequence[Record],
    *,
    say: Callable[[str], None] = lambda line: None,
) -> list[SuiteRow]:
    """Every suite of the recipe, asked of the tuned model and of the base (where the base writes text)."""
    from attune.model.load import load_model
    from attune.model.save import open_model

    suites = load_suites(recipe.evaluate.suites)
    if not suites:
        return []
    tuned = subject_of(open_model(run.model_dir, recipe)[0], objective.head, recipe, tokenizer, objective)
    after = [_asked(suite, questions, tuned) for suite, questions in suites]
    before: list[Measured | str] = ["the base has no such head"] * len(suites)
    if objective.head == "lm" and recipe.model.from_config is None:
        del tuned
        base = subject_of(load_model(recipe.model, head="lm"), "lm", recipe, tokenizer, None)
        before = [_asked(suite, questions, base) for suite, questions in suites]
    known = {record.full_text for record in trained_on}
    rows = []
    for (suite, questions), now, then in zip(suites, after, before):
        if isinstance(now, str):
            say(f"suite {suite.label} left out: {now}")
            continue
        seen = sum(record.full_text in known for record in questions.records)
        rows.append(_row(now, then, recipe, seen))
        say(f"suite {suite.label}: {now.primary} {now.value.value:.4g}, {now.seconds:.1f} s")
    return rows


def suite_figures(rows: Sequence[SuiteRow]) -> dict[str, Any]:
    """The tuned model's figures under the keys of `run.metrics`."""
    return {f"suite/{row['suite']}/{name}": dict(figure) for row in rows for name, figure in row["tuned"].items()}


def _asked(suite: Suite, questions: Questions, subject: Subject) -> Measured | str:
    return suite.why_not(questions, subject) or measure(suite, questions, subject)


def _row(now: Measured, then: Measured | str, recipe: Recipe, seen: int) -> SuiteRow:
    pair = None
    if not isinstance(then, str) and now.primary in now.statistics and now.primary in then.statistics:
        pair = change(then, now, n=recipe.evaluate.bootstrap, seed=recipe.seed)
    return {
        "suite": now.suite,
        "task": now.task,
        "primary": now.primary,
        "higher_is_better": now.higher_is_better.get(now.primary, True),
        "tuned": {name: figure._asdict() for name, figure in now.figures.items()},  # type: ignore[misc]
        "base": None if isinstance(then, str) else {name: figure._asdict() for name, figure in then.figures.items()},  # type: ignore[misc]
        "change": None if pair is None else pair._asdict(),  # type: ignore[typeddict-item]
        "note": f"{seen} of its rows also stand in the training data" if seen else "",
    }
