"""Intervals cover, paired tests keep their error rate, and the verdict says what the numbers say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import f1_score

from attune import plugins
from attune.evaluate.predictions import Predictions
from attune.evaluate.stats import Interval, Paired, bootstrap, mcnemar, paired, permutation
from attune.evaluate.verdict import Verdict, verdict
from attune.records import Record

LABELS = np.array(list("abcd"))


def metric(name: str):
    return plugins.get("metric", name)()


def answers(gold: np.ndarray, accuracy: float, dice: np.random.Generator) -> np.ndarray:
    """Right with the given probability, else any class."""
    return np.where(dice.random(len(gold)) < accuracy, gold, LABELS[dice.integers(4, size=len(gold))])


def statistics(name: str, gold: np.ndarray, said: np.ndarray) -> np.ndarray:
    records = [Record(id=str(row), label=str(label)) for row, label in enumerate(gold)]
    return metric(name).statistics(records, Predictions("tuned", [str(answer) for answer in said]))


def judged(name: str, gold: np.ndarray, tuned: np.ndarray, base: np.ndarray, seed: int) -> Verdict:
    first, second = statistics(name, gold, tuned), statistics(name, gold, base)
    pair = paired(metric(name), first, second, n=200, seed=seed)
    return verdict(name, bootstrap(metric(name), first, n=100, seed=seed), {"base": pair})


def test_the_interval_is_the_percentile_bootstrap() -> None:
    dice = np.random.default_rng(3)
    gold = LABELS[dice.integers(4, size=120)]
    said = answers(gold, 0.6, dice)
    found = bootstrap(metric("f1_macro"), statistics("f1_macro", gold, said), n=300, seed=7)
    again = np.random.default_rng(7)
    replicates = []
    for _ in range(300):
        rows = again.integers(120, size=120)
        replicates.append(f1_score(gold[rows], said[rows], average="macro"))
    assert math.isclose(found.value, f1_score(gold, said, average="macro"))
    assert np.allclose([found.low, found.high], np.quantile(replicates, [0.025, 0.975]))
    assert found.n == 120


def test_a_share_has_wilsons_interval_which_stays_honest_when_all_are_right() -> None:
    found = bootstrap(metric("accuracy"), np.ones((10, 1)))
    assert found.value == found.high == 1.0 and math.isclose(found.low, 0.7224672, abs_tol=1e-6)
    expected = scipy_stats.binomtest(37, 50).proportion_ci(method="wilson")
    found = bootstrap(metric("accuracy"), np.repeat([1.0, 0.0], [37, 13])[:, None])
    assert np.allclose(found[:3], [0.74, expected.low, expected.high])


@pytest.mark.parametrize(("name", "rows"), [("accuracy", 25), ("f1_macro", 200)])
def test_intervals_cover_the_truth(name: str, rows: int) -> None:
    large = np.random.default_rng(0)
    gold = LABELS[large.integers(4, size=200_000)]
    truth = f1_score(gold, answers(gold, 0.8, large), average="macro") if name == "f1_macro" else 0.85
    inside = 0
    for seed in range(200):
        dice = np.random.default_rng(seed)
        gold = LABELS[dice.integers(4, size=rows)]
        found = bootstrap(metric(name), statistics(name, gold, answers(gold, 0.8, dice)), n=200, seed=seed)
        inside += found.low <= truth <= found.high
    print(f"{name}, {rows} rows: the 95 % interval covers the truth in {inside / 2:.1f} % of 200 samples")
    assert inside >= 180


def test_groups_widen_the_interval() -> None:
    right = np.repeat(np.random.default_rng(1).integers(2, size=20), 10).astype(float)[:, None]
    groups = np.repeat(np.arange(20), 10).tolist()
    alone, together = bootstrap(metric("accuracy"), right), bootstrap(metric("accuracy"), right, groups=groups)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    pair = paired(metric("accuracy"), right, 1 - right, groups=groups, n=200)
    assert pair.high - pair.low > 0.5 and 0 < pair.p <= 1


def test_undefined_figures_stay_undefined() -> None:
    nothing = np.full((5, 3), np.nan)
    assert all(math.isnan(number) for number in bootstrap(metric("ece"), nothing)[:3])
    assert all(math.isnan(number) for number in paired(metric("ece"), nothing, nothing))
    assert bootstrap(metric("accuracy"), np.zeros((0, 1))).n == 0
    with pytest.raises(ValueError, match="same rows"):
        paired(metric("accuracy"), np.ones((3, 1)), np.ones((4, 1)))


def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ() -> None:
    first, second = [1] * 9 + [0] * 2 + [1] * 50, [0] * 9 + [1] * 2 + [1] * 50
    assert math.isclose(mcnemar(first, second), scipy_stats.binomtest(9, 11).pvalue)
    assert mcnemar([1, 0, 1], [1, 0, 1]) == 1.0


def test_permutation_agrees_with_every_sign_tried() -> None:
    dice = np.random.default_rng(5)
    first, second = dice.normal(0.6, 1, 10), dice.normal(0, 1, 10)
    exact = scipy_stats.permutation_test(
        (first, second), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True
    )
    assert math.isclose(permutation(first, second), exact.pvalue, abs_tol=0.015)
    assert permutation(first, first) == 1.0


@pytest.mark.parametrize("name", ["accuracy", pytest.param("f1_macro", marks=pytest.mark.slow)])
def test_identical_models_are_not_told_apart_in_200_seeds(name: str) -> None:
    same, equal = 0, 0
    for seed in range(200):
        dice = np.random.default_rng(seed)
        gold = LABELS[dice.integers(4, size=200)]
        tuned = answers(gold, 0.7, dice)
        if seed % 4 == 0:
            same += judged(name, gold, tuned, tuned, seed).word == "no difference"
        equal += judged(name, gold, tuned, answers(gold, 0.7, dice), seed).word == "no difference"
    print(f"{name}: the same answers {same}/50, equally good but other answers {equal}/200 'no difference'")
    assert same == 50
    assert equal >= 0.95 * 200


@pytest.mark.parametrize("name", ["accuracy", "f1_macro"])
def test_five_points_on_a_thousand_rows_are_found(name: str) -> None:
    """The tuned model mends 70 and breaks 20 of 1000 rows: +5 points."""
    words = []
    for seed in range(20):
        dice = np.random.default_rng(seed)
        gold = LABELS[dice.integers(4, size=1000)]
        base = answers(gold, 0.7, dice)
        wrong, right = np.flatnonzero(base != gold), np.flatnonzero(base == gold)
        tuned = base.copy()
        mended, broken = dice.choice(wrong, 70, replace=False), dice.choice(right, 20, replace=False)
        tuned[mended] = gold[mended]
        tuned[broken] = [next(label for label in "abcd" if label != gold[row]) for row in broken]
        words.append(judged(name, gold, tuned, base, seed).word)
    print(f"{name}: power for +5 points on 1000 rows (70 mended, 20 broken): {words.count('better')}/20")
    assert words.count("better") == 20


def test_power_on_small_tests_is_stated() -> None:
    """What 100, 300 and 1000 rows can show of +5 points, where the two systems err independently half of the time."""
    for rows, least in ((100, 0), (300, 5), (1000, 30)):
        found = 0
        for seed in range(40):
            dice = np.random.default_rng(seed)
            gold = LABELS[dice.integers(4, size=rows)]
            base = answers(gold, 0.70, dice)
            tuned = np.where(dice.random(rows) < 0.5, base, answers(gold, 0.70 + 2 * 0.05 / 0.75, dice))
            first, second = statistics("accuracy", gold, tuned), statistics("accuracy", gold, base)
            found += paired(metric("accuracy"), first, second, n=100, seed=seed).p < 0.05
        print(f"power for +5 points of accuracy on {rows} rows: {found / 40:.0%}")
        assert found >= least


TUNED = Interval(0.90, 0.88, 0.92, 800)
BETTER, SAME, WORSE = (
    Paired(0.05, 0.03, 0.07, 0.001),
    Paired(0.004, -0.01, 0.02, 0.6),
    Paired(-0.05, -0.07, -0.03, 0.001),
)


@pytest.mark.parametrize(
    ("versus", "more", "word", "ship"),
    [
        ({"majority": BETTER, "tfidf": BETTER}, {}, "better", True),
        ({"majority": BETTER, "tfidf": SAME}, {}, "no difference", False),
        ({"majority": BETTER, "tfidf": WORSE}, {}, "worse", False),
        ({"majority": SAME, "tfidf": BETTER}, {}, "learned nothing", False),
        ({"majority": WORSE}, {}, "learned nothing", False),
        ({"zero_shot": SAME}, {}, "no difference", False),
        ({}, {}, "no difference", False),
        ({"tfidf": BETTER}, {"supervised_tokens": 0}, "learned nothing", False),
        ({"tfidf": BETTER}, {"stop_rate": 0.5}, "better", False),
        ({"tfidf": BETTER}, {"invalid_rate": 0.1}, "better", False),
        ({"tfidf": BETTER}, {"stop_rate": 1.0, "invalid_rate": 0.0, "supervised_tokens": 5000}, "better", True),
        ({"base": WORSE}, {"higher_is_better": False}, "better", True),
        ({"base": BETTER, "tfidf": Paired(*[math.nan] * 4)}, {}, "better", True),
        ({"base": Paired(0.05, -0.001, 0.1, 0.04)}, {}, "no difference", False),  # p and interval must agree
    ],
)
def test_verdict(versus: dict, more: dict, word: str, ship: bool) -> None:
    found = verdict("f1_macro", TUNED, versus, **more)
    assert (found.word, found.ship) == (word, ship)
    assert found.sentence.endswith(".") and any("0.900" in line for line in found.evidence)


def test_verdict_names_the_best_baseline_and_what_stops_shipping() -> None:
    found = verdict("f1_macro", TUNED, {"majority": Paired(0.5, 0.4, 0.6, 0.001), "tfidf": BETTER}, stop_rate=0.4)
    assert "tfidf: +0.050 f1_macro, 95 % interval 0.030 to 0.070, p 0.001" in found.sentence
    assert "only 40 % of the answers end by themselves" in found.sentence
    found = verdict("f1_macro", TUNED, {"tfidf": SAME})
    assert any("800 rows show a difference of 0.021 in 4 of 5 cases" in line for line in found.evidence)
