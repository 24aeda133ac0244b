"""What is chosen, advised and reckoned, from data and figures alone: no model is loaded and nothing is measured."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from attune.errors import MachineError, UsageError
from attune.plan.advise import advise
from attune.plan.catalog import bases, fitting
from attune.plan.choose import choose
from attune.plan.hardware import machine, names
from attune.plan.look import Look
from attune.plan.plan import plan
from attune.plan.sizes import Shape, memory_gib, seconds_on
from attune.recipe import Recipe


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 short English texts of three classes."""
    path = tmp_path_factory.mktemp("data") / "tickets.csv"
    said = {
        "refund": "I want my money back for order",
        "login": "I cannot sign in to the account of",
        "late": "where is",
    }
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(
            [f"{said[kind]} number {at} please help me with it", kind] for at in range(40) for kind in said
        )
    return str(path)


def seen(**changes: Any) -> Look:
    facts: dict[str, Any] = {"task": "classification", "why": "", "rows": 900, "whole": True}
    facts |= {"classes": {"a": 600, "b": 300}, "words": {"median": 12, "p95": 30, "longest": 80}}
    return Look(**facts | changes)


def ways(found: list[Any]) -> dict[str, str]:
    return {one.way: one.worth for one in found}


# what to do ----------------------------------------------------------------------------------------------------------


def test_every_reason_rests_on_a_number() -> None:
    for case in (seen(), seen(rows=40, classes={"a": 38, "b": 2}), seen(task="generation", classes={}, grounded=0.1)):
        for one in advise(case, "answer questions about our documents"):
            assert any(char.isdigit() for char in one.reason) or one.way == "retrieval", one


def test_few_rows_are_shown_in_a_prompt_and_labelled_first() -> None:
    found = advise(seen(rows=40, classes={"a": 38, "b": 2}), None)
    assert found[0].way == "label more" and "'b', 2" in found[0].reason
    assert ways(found) == {"label more": "yes", "prompting": "first", "tuning": "maybe", "retrieval": "no"}


def test_a_base_that_is_good_already_is_told_from_one_that_is_not() -> None:
    good = advise(seen(), None, {"right": 64, "rows": 64})
    assert good[0].way == "prompting" and good[0].worth == "first" and "64 of 64" in good[0].reason
    bad = advise(seen(), None, {"right": 10, "rows": 64})
    assert bad[0].way == "tuning" and ways(bad)["prompting"] == "no"
    assert ways(advise(seen(), None, {"right": 8, "rows": 8}))["prompting"] == "maybe"  # too few to be sure


def test_facts_that_stand_in_no_prompt_are_looked_up() -> None:
    closed = seen(task="generation", classes={}, grounded=0.08)
    assert ways(advise(closed, "answer questions about current prices"))["retrieval"] == "yes"
    assert ways(advise(seen(task="generation", classes={}, grounded=0.8), None))["retrieval"] == "no"


# what to take --------------------------------------------------------------------------------------------------------


def test_a_recipe_with_a_reason_for_every_key_that_is_not_at_its_default(tickets: str) -> None:
    chosen = choose(tickets, goal="sort tickets")
    default = Recipe.load({"data": {"path": tickets}}).model_dump(mode="json")
    for section, values in chosen.recipe.model_dump(mode="json").items():
        for key, value in values.items() if isinstance(values, dict) else ():
            if value != default[section].get(key) and section in ("train", "model", "data"):
                assert any(name.startswith(f"{section}.{key}") for name in chosen.why) or key == "path", (
                    f"{section}.{key}"
                )
    text = plan(tickets, goal="sort tickets", measure=False).recipe_text()
    assert "patience: 5  # validation figures" in text and "weight_decay: 0.05  # all weights train" in text
    assert Recipe.load(_yaml(text)).train.early_stopping.patience == 5  # type: ignore[union-attr]


def _yaml(text: str) -> dict[str, Any]:
    from ruamel.yaml import YAML

    return dict(YAML(typ="safe").load(text))


def test_what_the_user_says_wins(tickets: str) -> None:
    chosen = choose(tickets, overrides=["model.base=starter", "train.epochs=2"])
    assert chosen.recipe.model.base == "starter" and chosen.recipe.train.epochs == 2
    assert chosen.why["model.base"] == chosen.why["train.epochs"] == "as you said"


def test_a_goal_that_contradicts_the_data_is_named(tickets: str) -> None:
    assert any("going by the data" in note for note in choose(tickets, goal="summarise them").notes)


def test_bases_are_filtered_by_licence_language_kind_and_context(tickets: str) -> None:
    assert {"starter", "minilm"} <= {base.id for base in bases()}
    for base in fitting(("decoder",), language="de", licence="permissive", context=8000):
        assert base.kind == "decoder" and base.speaks("de") and base.context >= 8000
        assert base.licence.lower() in ("apache-2.0", "mit", "cc-by-4.0", "bsd-3-clause")
    assert not [base for base in bases() if base.verified and base.id not in ("starter", "minilm")]
    with pytest.raises(MachineError, match="no base under licence"):
        choose(tickets, licence="gpl-3.0")


def test_a_larger_machine_is_offered_larger_bases(tickets: str) -> None:
    here = choose(tickets, overrides=["model.base=starter"])
    large = choose(tickets, hardware="h200", overrides=["model.base=starter"])
    most = max(base.shape.parameters for base, _ in large.suggestions)
    assert most >= 8e9 > max((base.shape.parameters for base, _ in here.suggestions), default=0)
    assert all(need <= large.machine.memory_gib for _, need in large.suggestions)


# what it takes elsewhere ---------------------------------------------------------------------------------------------


def test_other_machines_are_reckoned_from_their_data_sheets_and_say_so(tickets: str) -> None:
    made = plan(tickets, hardware="rtx4090", price=0.5)
    assert made.estimate is not None and made.cost is not None
    time = made.estimate["total_seconds"]
    assert time["low"] < time["value"] < time["high"] and time["high"] / time["low"] >= 3
    assert "not measured" in made.text() and made.cost["value"] == pytest.approx(0.5 * time["value"] / 3600, abs=0.01)
    json.dumps(made.to_dict(), allow_nan=False)


def test_unknown_machines_are_refused_with_the_nearest_name() -> None:
    assert {"here", "h200", "a100-80g", "rtx4090"} <= set(names())
    with pytest.raises(UsageError, match="did you mean 'h200'"):
        machine("h20")


def test_memory_grows_with_what_trains_and_shrinks_with_checkpointing() -> None:
    shape = Shape(8e9, 32, 4096, 128256, 14336)
    lora = memory_gib(shape, trained=8e7, forward_tokens=4096, kind="cuda")
    assert memory_gib(shape, trained=8e9, forward_tokens=4096, kind="cuda") > 3 * lora > 0
    assert memory_gib(shape, trained=8e7, forward_tokens=4096, kind="cuda", checkpointing=True) < lora
    slow = seconds_on(shape, machine("l4"), tokens=1e6, forwards=100, full=False)
    fast = seconds_on(shape, machine("h200"), tokens=1e6, forwards=100, full=False)
    assert slow[0] > 4 * fast[0] and fast[1] < fast[0] < fast[2]


def test_a_base_that_does_not_fit_is_refused_with_the_figures(tmp_path: Path, tickets: str) -> None:
    config = {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
    config |= {
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    }
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(MachineError) as refused:
        choose(tickets, hardware="rtx4090", overrides=[f"model.base={tmp_path}"])
    assert refused.value.exit_code == 5 and "GiB" in str(refused.value.why)
