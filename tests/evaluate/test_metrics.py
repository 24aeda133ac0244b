"""Every figure equals the reference library's, on random answers with everything that goes wrong in them."""

from __future__ import annotations

import math
import random
import re
import string
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy import stats as scipy_stats

from attune import plugins
from attune.errors import DataError
from attune.evaluate.metrics.calibration import reliability
from attune.evaluate.metrics.counts import confusion, per_class
from attune.evaluate.predictions import TASKS, Predictions
from attune.records import Completion, Message, Record, Span

CASES = 100
CLOSE = {"rel_tol": 1e-9, "abs_tol": 1e-9}


def figure(name: str, records: list[Record], outputs: list[Any], **fields: Any) -> float:
    metric = plugins.get("metric", name)()
    return metric.value(metric.statistics(records, Predictions("tuned", outputs, **fields)))


def labelled(labels: list[Any]) -> list[Record]:
    return [Record(id=str(number), label=label) for number, label in enumerate(labels)]


def written(references: list[list[str]]) -> list[Record]:
    return [
        Record(
            id=str(number),
            completions=(Completion((Message("assistant", texts[0]),)),),
            meta={"references": texts[1:]} if texts[1:] else {},
        )
        for number, texts in enumerate(references)
    ]


def class_case(seed: int) -> tuple[list[str], list[str | None]]:
    """Gold and answers: one class to seven, answers outside the gold classes, gold classes never answered, None."""
    dice = random.Random(seed)
    known = list("abcdefg")[: dice.randint(1, 7)]
    gold = [dice.choice(known) for _ in range(dice.randint(1, 60))]
    said = dice.sample(known, dice.randint(1, len(known))) + (["zz"] if seed % 3 == 0 else [])
    said += [None] if seed % 2 else []
    return gold, [true if dice.random() < 0.5 else dice.choice(said) for true in gold]


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_class_figures_equal_scikit_learn(average: str) -> None:
    for seed in range(CASES):
        gold, said = class_case(seed)
        records = labelled(gold)
        labels = sorted(set(gold) | {answer for answer in said if answer is not None})
        # scikit-learn has no missing answer: it becomes a class that is not averaged over, so it only misses.
        filled = [answer or "(none)" for answer in said]
        assert math.isclose(figure("accuracy", records, said), sk.accuracy_score(gold, filled), **CLOSE)
        expected = sk.precision_recall_fscore_support(gold, filled, labels=labels, average=average, zero_division=0)[:3]
        for name, value in zip(("precision", "recall", "f1"), expected, strict=True):
            assert math.isclose(figure(f"{name}_{average}", records, said), value, **CLOSE), (seed, name)
        if None not in said:  # and then the default of scikit-learn, without naming labels
            expected = sk.f1_score(gold, said, average=average, zero_division=0)
            assert math.isclose(figure(f"f1_{average}", records, said), expected, **CLOSE)


def test_multilabel_figures_equal_scikit_learn() -> None:
    from sklearn.preprocessing import MultiLabelBinarizer

    for seed in range(CASES):
        dice = random.Random(seed)
        known = list("abcde")[: dice.randint(2, 5)]

        def some(share: float, dice: random.Random = dice, known: list[str] = known) -> tuple[str, ...]:
            return tuple(label for label in known if dice.random() < share)

        gold = [(known[0],)] + [some(0.4) for _ in range(dice.randint(1, 40))]
        said = [None if dice.random() < 0.1 else some(0.5) for _ in gold]
        binary = MultiLabelBinarizer().fit([*gold, *(answer or () for answer in said)])
        true, answered = binary.transform(gold), binary.transform([answer or () for answer in said])
        records = labelled(gold)
        for average in ("macro", "micro"):
            expected = sk.precision_recall_fscore_support(true, answered, average=average, zero_division=0)[:3]
            for name, value in zip(("precision", "recall", "f1"), expected, strict=True):
                assert math.isclose(figure(f"{name}_{average}", records, said), value, **CLOSE), (seed, name)
        given = [row for row, answer in enumerate(said) if answer is not None]
        right = sk.accuracy_score(true[given], answered[given], normalize=False) if given else 0
        assert math.isclose(figure("accuracy", records, said), right / len(gold), **CLOSE)


def test_no_class_is_an_answer_but_none_is_not() -> None:
    records = labelled([(), ()])
    assert figure("accuracy", records, [(), None]) == 0.5
    assert figure("invalid_rate", records, [(), None]) == 0.5
    assert math.isnan(figure("f1_macro", records, [(), ()]))  # no label anywhere: undefined, not zero
    assert figure("f1_micro", records, [(), ()]) == 0


def test_span_figures_equal_seqeval() -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

    warnings.filterwarnings("ignore", module="seqeval")
    for seed in range(CASES):
        dice = random.Random(seed)
        tags = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"] + (["B-LOC", "I-LOC"] if seed % 2 else [])
        lengths = [dice.randint(1, 12) for _ in range(dice.randint(1, 20))]
        gold = [[dice.choice(tags) for _ in range(length)] for length in lengths]
        said = [[true if dice.random() < 0.6 else dice.choice(tags) for true in row] for row in gold]

        def spans(row: list[str]) -> tuple[Span, ...]:
            return tuple(Span(start, end + 1, label) for label, start, end in get_entities(row))

        outputs: list[Any] = [spans(row) for row in said]
        if seed % 3 == 0:  # no answer equals finding nothing
            outputs[0], said[0] = None, ["O"] * lengths[0]
        records = labelled([spans(row) for row in gold])
        for name, oracle in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = float(oracle(gold, said, zero_division=0))
            assert math.isclose(figure(f"span_{name}", records, outputs), expected, **CLOSE), (seed, name)


def test_a_span_needs_start_end_and_label() -> None:
    records = labelled([(Span(0, 3, "PER"), Span(5, 9, "ORG"))])
    assert figure("span_f1", records, [(Span(0, 3, "PER"), Span(5, 8, "ORG"))]) == 0.5
    assert figure("span_f1", records, [(Span(0, 3, "ORG"),)]) == 0
    assert figure("span_precision", records, [(Span(0, 3, "PER"),)]) == 1


WORDS = ["the", "cat", "sat", "on", "a", "mat.", "Paris,", "in", "1999", "über", "naïve", "-", "!"]


def text_case(seed: int) -> tuple[list[list[str]], list[str | None]]:
    """References (one to three) and answers; empty texts, None, equal texts, and texts that share nothing."""
    dice = random.Random(seed)

    def text(least: int = 0) -> str:
        return " ".join(dice.choice(WORDS) for _ in range(dice.randint(least, 14)))

    references = [[text() for _ in range(dice.randint(1, 3 if seed % 2 else 1))] for _ in range(dice.randint(1, 12))]
    references = [list(dict.fromkeys(texts)) for texts in references]
    answers: list[str | None] = [dice.choice([texts[0], text(), f"{texts[0]} {text()}", ""]) for texts in references]
    if seed % 3 == 0:
        answers[-1] = None
    return references, answers


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_equals_rouge_score(name: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([name])
    for seed in range(CASES):
        references, answers = text_case(seed)
        pairs = [(texts, answer or "") for texts, answer in zip(references, answers, strict=True)]
        best = [max(scorer.score(text, answer)[name].fmeasure for text in texts) for texts, answer in pairs]
        expected = np.mean(best)
        assert math.isclose(figure(name, written(references), answers), expected, **CLOSE), seed


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_corpus_figures_equal_sacrebleu(name: str) -> None:
    import sacrebleu

    for seed in range(CASES):
        references, answers = text_case(seed)
        width = max(len(texts) for texts in references)
        streams = [[texts[at] if at < len(texts) else None for texts in references] for at in range(width)]
        said = [answer or "" for answer in answers]
        score = sacrebleu.corpus_bleu if name == "bleu" else sacrebleu.corpus_chrf
        expected = score(said, streams).score
        assert math.isclose(figure(name, written(references), answers), expected, **CLOSE), seed


def test_exact_match_equals_the_squad_script() -> None:
    def squad(text: str) -> str:  # the published evaluation script, its own steps and order
        text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    for seed in range(CASES):
        references, answers = text_case(seed)
        expected = np.mean(
            [
                answer is not None and any(squad(answer) == squad(text) for text in texts)
                for texts, answer in zip(references, answers, strict=True)
            ]
        )
        assert math.isclose(figure("exact_match", written(references), answers), expected, **CLOSE), seed
    assert figure("exact_match", written([["The  Cat."]]), ["cat"]) == 1
    assert figure("exact_match", written([["the"]]), [None]) == 0  # None is wrong even where the reference is empty


def probabilities(seed: int) -> tuple[list[str], np.ndarray, list[str]]:
    dice = np.random.default_rng(seed)
    labels = list("abcdef")[: dice.integers(2, 7)]
    scores = dice.dirichlet(np.full(len(labels), 0.4), size=int(dice.integers(1, 50)))
    gold = [labels[dice.integers(len(labels))] for _ in scores]
    return gold, scores, labels


def test_probability_figures_equal_scikit_learn() -> None:
    for seed in range(CASES):
        gold, scores, labels = probabilities(seed)
        records, fields = labelled(gold), {"scores": scores, "labels": labels}
        answers = [labels[best] for best in scores.argmax(axis=1)]
        binary = len(labels) == 2
        expected = sk.brier_score_loss(
            [label == labels[1] for label in gold] if binary else gold,
            scores[:, 1] if binary else scores,
            **({} if binary else {"labels": labels}),
        )
        assert math.isclose(figure("brier", records, answers, **fields), expected, **CLOSE), seed
        expected = sk.log_loss(gold, scores, labels=labels)
        assert math.isclose(figure("log_loss", records, answers, **fields), expected, **CLOSE), seed
        expected = float(np.mean([scores[row][labels.index(label)] for row, label in enumerate(gold)]))
        assert math.isclose(figure("probability", records, answers, **fields), expected, **CLOSE), seed


def test_calibration_equals_its_definition() -> None:
    for seed in range(CASES):
        gold, scores, labels = probabilities(seed)
        expected = 0.0
        for bin_ in range(15):
            low, high = bin_ / 15, (bin_ + 1) / 15
            inside = [row for row in range(len(gold)) if low < scores[row].max() <= high]
            if inside:
                right = np.mean([labels[scores[row].argmax()] == gold[row] for row in inside])
                expected += len(inside) / len(gold) * abs(right - np.mean([scores[row].max() for row in inside]))
        records, fields = labelled(gold), {"scores": scores, "labels": labels}
        assert math.isclose(figure("ece", records, gold, **fields), expected, **CLOSE), seed
        bins = reliability(records, Predictions("tuned", gold, **fields)) or []
        gap = sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in bins) / len(gold)
        assert math.isclose(gap, expected, **CLOSE)


def test_a_label_the_system_does_not_know_was_given_probability_zero() -> None:
    fields: dict[str, Any] = {"scores": np.array([[0.5, 0.3, 0.2]]), "labels": ["a", "b", "c"]}
    assert math.isclose(figure("brier", labelled(["new"]), ["a"], **fields), 0.25 + 0.09 + 0.04 + 1)
    assert math.isclose(figure("log_loss", labelled(["new"]), ["a"], **fields), -math.log(np.finfo(float).eps))
    assert figure("probability", labelled(["new"]), ["a"], **fields) == 0


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("mse", sk.mean_squared_error),
        ("mae", sk.mean_absolute_error),
        ("r2", sk.r2_score),
        ("pearson", lambda true, said: scipy_stats.pearsonr(true, said)[0]),
        ("spearman", lambda true, said: scipy_stats.spearmanr(true, said)[0]),
    ],
)
def test_regression_figures_equal_scikit_learn_and_scipy(name: str, oracle: Callable[..., float]) -> None:
    for seed in range(CASES):
        dice = np.random.default_rng(seed)
        true = dice.normal(size=30) * 1e3
        if seed % 2:  # few values: ties in the ranks
            true = dice.integers(0, 9, size=int(dice.integers(2, 50))).astype(float)
        said = true + dice.normal(size=len(true))
        outputs: list[float | None] = list(said)
        if seed % 3 == 0:  # a missing answer is the farther end of the gold range
            outputs[0] = [None, math.nan, math.inf][seed % 9 // 3]
            said[0] = max(true.max(), true.min(), key=lambda end: abs(end - true[0]))
        if seed == 1:
            true[:] = 4.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = oracle(true, said)
        value = figure(name, labelled([float(number) for number in true]), outputs)
        assert math.isclose(value, expected, **CLOSE) or (math.isnan(value) and math.isnan(expected)), seed


def test_likelihood_and_stopping() -> None:
    records = written([["x"], ["y"]])
    logp = np.array([[-2.0, 4], [-7.0, 5]])
    assert math.isclose(figure("loss", records, ["", ""], logp=logp), 1.0)
    assert math.isclose(figure("perplexity", records, ["", ""], logp=logp), math.e)
    assert figure("perplexity", records, ["", ""], logp=np.array([[-1e4, 1], [0, 1]])) == math.inf
    assert figure("stop_rate", records, ["", ""], stopped=[True, False]) == 0.5


@pytest.mark.parametrize("name", ["ece", "brier", "log_loss", "probability", "loss", "perplexity", "stop_rate"])
def test_a_figure_without_its_input_is_undefined_and_says_what_it_needs(name: str) -> None:
    metric = plugins.get("metric", name)
    assert math.isnan(figure(name, labelled(["a", "b"]), ["a", "b"]))
    assert getattr(Predictions("tuned", []), metric.needs) is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", plugins.names("metric"))
def test_every_metric_keeps_the_contract(name: str) -> None:
    metric = plugins.get("metric", name)()
    assert metric.tasks and set(metric.tasks) <= set(TASKS)
    gold: Any = {"classification": "a", "regression": 1.5, "tagging": (Span(0, 1, "X"),)}.get(metric.tasks[0], "a")
    records = [
        Record(
            id=str(row),
            prompt=(Message("user", "one two five"),),
            label=gold,
            completions=(Completion((Message("assistant", "one two three four"),)),),
            meta={"attune.schema": "{}"},
        )
        for row in range(3)
    ]
    outputs = [gold if metric.tasks[0] != "generation" else "one two three four", None, gold]
    predictions = Predictions(
        "tuned", outputs, scores=np.full((3, 2), 0.5), labels=["a", "b"], logp=np.full((3, 2), 1.0), stopped=[True] * 3
    )
    statistics = metric.statistics(records, predictions)
    assert statistics.dtype == np.float64 and statistics.shape[0] == 3 and statistics.ndim == 2
    assert isinstance(metric.value(statistics), float)
    order = np.array([2, 0, 1])
    assert math.isclose(metric.value(statistics), metric.value(statistics[order]), rel_tol=1e-12) or name in (
        "pearson",
        "spearman",
        "r2",
    )
    assert math.isnan(metric.value(statistics[:0]))


def test_translation_figures_carry_their_signature() -> None:
    for name in ("bleu", "chrf"):
        assert "version:" in plugins.get("metric", name)().signature  # type: ignore[attr-defined]


def test_a_row_without_a_label_or_reference_is_named() -> None:
    with pytest.raises(DataError, match="claims.csv:7"):
        figure("accuracy", [Record(id="x", where="claims.csv:7")], ["a"])
    with pytest.raises(DataError, match="claims.csv:8"):
        figure("rouge1", [Record(id="x", where="claims.csv:8")], ["a"])
    with pytest.raises(DataError, match="claims.csv:9"):
        figure("mse", [Record(id="x", label="red", where="claims.csv:9")], [1.0])


def test_per_class_table_equals_scikit_learn() -> None:
    for seed in range(CASES):
        gold, said = class_case(seed)
        rows = per_class(labelled(gold), Predictions("tuned", said))
        labels = [row["label"] for row in rows]
        filled = [answer or "(none)" for answer in said]
        expected = sk.precision_recall_fscore_support(gold, filled, labels=labels, zero_division=0)
        for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            assert np.allclose([row[column] for row in rows], values, atol=1e-9), (seed, column)
        assert sum(row["predicted"] for row in rows) == sum(answer is not None for answer in said)


def test_confusion_equals_scikit_learn_and_keeps_the_unanswered_apart() -> None:
    for seed in range(CASES):
        gold, said = class_case(seed)
        found = confusion(labelled(gold), Predictions("tuned", said))
        matrix = np.array(found["matrix"])
        answered = [row for row, answer in enumerate(said) if answer is not None]
        if answered:
            true, answers = [gold[row] for row in answered], [said[row] for row in answered]
            expected = sk.confusion_matrix(true, answers, labels=found["labels"])
            assert (matrix[:, : len(found["labels"])] == expected).all()
        assert matrix.sum() == len(gold)
        assert sum(pair["count"] for pair in found["pairs"]) <= sum(a != b for a, b in zip(gold, said, strict=True))


def test_several_classes_pair_what_was_missed_with_what_was_said() -> None:
    gold: list[Any] = [("a", "b"), ("a",), ("c",), ("c",), ()]
    found = confusion(labelled(gold), Predictions("tuned", [("a", "c"), (), None, ("c",), ("a",)]))
    assert found["matrix"] is None
    assert [tuple(pair.values()) for pair in found["pairs"]] == [
        ("a", "(nothing)", 1, 2),
        ("b", "c", 1, 1),
        ("c", "(no answer)", 1, 2),
    ]


def test_many_labels_leave_only_the_most_confused_pairs() -> None:
    gold = [f"label{number}" for number in range(40)] * 3
    said = ["label0" if label == "label7" else label for label in gold]
    found = confusion(labelled(gold), Predictions("tuned", said))
    assert found["matrix"] is None
    assert found["pairs"] == [{"gold": "label7", "said": "label0", "count": 3, "of": 3}]
