"""Agreement: equal to published worked examples and to scikit-learn; intervals that cover; nothing where undefined."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from attune.data.label.agreement import Units, agreement, cohen_kappa, fleiss_kappa, krippendorff_alpha

FLEISS = """0 0 0 0 14|0 2 6 4 2|0 0 3 5 6|0 3 9 2 0|2 2 8 1 1|7 7 0 0 0|3 2 6 3 0|2 5 3 2 2|6 5 2 1 0|0 2 2 3 7"""
"""Fleiss 1971 as worked in the encyclopaedia: 10 subjects, 14 raters, 5 categories; kappa 0.210."""
KRIPPENDORFF = {
    "A": "1 2 3 3 2 1 4 1 2 . . .",
    "B": "1 2 3 3 2 2 4 1 2 5 . 3",
    "C": ". 3 3 3 2 3 4 2 2 5 1 .",
    "D": "1 2 3 3 2 4 4 1 2 5 1 .",
}
"""Krippendorff 2011, example C: four observers, missing data, nominal alpha 0.743."""


def units(columns: dict[str, list[str]]) -> Units:
    size = len(next(iter(columns.values())))
    values = [{name: column[row] for name, column in columns.items() if column[row] != "."} for row in range(size)]
    return Units(values, list(range(size)))


def test_cohen_of_a_table_by_hand() -> None:
    # 20 both yes, 5 yes/no, 10 no/yes, 15 both no: seen 0.7, chance 0.5, kappa 0.4
    one = ["y"] * 25 + ["n"] * 25
    other = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(units({"a": one, "b": other}), "a", "b").value == pytest.approx(0.4, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_cohen_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, rng.integers(2, 6), 60).astype(str).tolist()
    other = [value if rng.random() < 0.6 else "9" for value in one]
    figure = cohen_kappa(units({"a": one, "b": other}), "a", "b")
    assert figure.value == pytest.approx(cohen_kappa_score(one, other), abs=1e-9)
    assert figure.low <= figure.value <= figure.high


def test_fleiss_of_the_published_table() -> None:
    rows = [[int(cell) for cell in row.split()] for row in FLEISS.split("|")]
    values = [[str(code) for code, count in enumerate(row) for _ in range(count)] for row in rows]
    columns = {f"r{rater}": [row[rater] for row in values] for rater in range(14)}
    figure = fleiss_kappa(units(columns))
    # By hand: P = 0.378022, Pe = 0.212755
    table = np.array(rows)
    seen = ((table**2).sum(1) - 14).sum() / (14 * 13 * 10)
    chance = ((table.sum(0) / 140) ** 2).sum()
    assert figure is not None
    assert figure.value == pytest.approx((seen - chance) / (1 - chance), abs=1e-9)
    assert figure.value == pytest.approx(0.210, abs=5e-4)


def test_alpha_of_the_published_table_with_missing_values() -> None:
    figure = krippendorff_alpha(units({name: line.split() for name, line in KRIPPENDORFF.items()}))
    # Coincidences as printed: diagonal 7 10 8 4 3 of 40, margins 9 13 10 5 3
    margins = np.array([9, 13, 10, 5, 3])
    expected = (39 * (7 + 10 + 8 + 4 + 3) - (margins * (margins - 1)).sum()) / (
        40 * 39 - (margins * (margins - 1)).sum()
    )
    assert figure.value == pytest.approx(expected, abs=1e-9)
    assert figure.value == pytest.approx(0.743, abs=5e-4)
    assert figure.items == 11  # the unit with one value says nothing about agreement


def test_two_annotators_alpha_nears_cohen_and_chance_is_zero() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 3, 4000).astype(str).tolist() for _ in range(2))
    made = agreement(units({"a": one, "b": other}))
    assert abs(made.alpha.value) < 0.03 and made.alpha.low < 0 < made.alpha.high
    assert made.pairs["a", "b"].value == pytest.approx(made.alpha.value, abs=1e-3)


def test_full_agreement_is_one_and_one_label_is_undefined() -> None:
    labels = ["x", "y", "x", "z"]
    made = agreement(units({"a": labels, "b": labels, "c": labels}))
    assert made.fleiss is not None
    assert made.fleiss.value == made.alpha.value == made.pairs["a", "c"].value == 1
    same = agreement(units({"a": ["x", "x"], "b": ["x", "x"]}))
    assert math.isnan(same.alpha.value) and math.isnan(same.pairs["a", "b"].value)


def test_nobody_shares_a_text() -> None:
    made = agreement(units({"a": ["x", "."], "b": [".", "y"]}))
    assert made.pairs == {} and made.fleiss is None and math.isnan(made.alpha.value) and made.alpha.items == 0


def test_interval_covers_the_truth_and_draws_whole_texts() -> None:
    rng = np.random.default_rng(1)
    truth = 0.6  # of two labels drawn evenly, where b copies a in 80 % of texts: 2 * 0.8 - 1
    covered = 0
    for seed in range(60):
        one = rng.integers(0, 2, 100)
        other = np.where(rng.random(100) < 0.8, one, 1 - one)
        columns = {"a": one.astype(str).tolist(), "b": other.astype(str).tolist()}
        figure = cohen_kappa(units(columns), "a", "b", seed=seed)
        covered += figure.low <= truth <= figure.high
    assert covered >= 51
    once = units(columns)
    # The same text five times is no more evidence than once: the interval stays as wide.
    many = Units([unit for unit in once.values for _ in range(5)], [text for text in once.texts for _ in range(5)])
    narrow, wide = cohen_kappa(many, "a", "b"), cohen_kappa(once, "a", "b")
    assert (narrow.value, narrow.low, narrow.high) == pytest.approx((wide.value, wide.low, wide.high))


def test_same_in_every_order() -> None:
    forward = {"a": ["x", "y", "z", "x"], "b": ["x", "z", "z", "y"]}
    made = [agreement(units(columns)) for columns in (forward, dict(reversed(forward.items())))]
    assert json.dumps(made[0].alpha.__dict__) == json.dumps(made[1].alpha.__dict__)
