"""Labels that are probably wrong: confident learning on predictions by models that never saw the row.

Source: Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels (JAIR 2021).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attune.errors import MachineError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Suspect", "Noise", "find_label_noise", "features_of", "confident_learning"]

FOLDS = 5
ROWS = 100_000
CELLS = 20_000_000
"""Rows, and rows x classes, that are examined at most; of more, an even sample."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """One row and what the models think of its label."""

    row: int
    given: str
    suggested: str
    margin: float
    """Probability of the suggested label minus that of the given one."""
    confident: bool
    """Confident learning counts it as wrong."""


@dataclass(frozen=True, slots=True)
class Noise:
    """All examined rows, the likeliest errors first."""

    suspects: list[Suspect]
    examined: int
    rare: dict[str, int]
    """Classes with fewer rows than folds, which cannot be judged, and how many rows they have."""
    agreement: float
    """Share of examined rows whose label is what the models would have said."""
    models: dict[str, float]
    """What was mixed, and the weight of each (chosen by likelihood on rows that it had not seen)."""
    reason: str = ""
    """Why nothing was examined."""

    @property
    def confident(self) -> list[Suspect]:
        return [suspect for suspect in self.suspects if suspect.confident]

    def pairs(self) -> list[tuple[str, str, int]]:
        """(given, suggested, rows) of the rows that confident learning counts as wrong, most frequent first."""
        counts = Counter((suspect.given, suspect.suggested) for suspect in self.confident)
        return [(*pair, count) for pair, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def find_label_noise(
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    embeddings: bool = False,
    rounds: int = 1,
    surest: float = 0.5,
    features: dict[str, Any] | None = None,
) -> Noise:
    """Rank rows by how probable it is that their label is wrong, the likeliest errors first.

    `embeddings` adds a model on sentence embeddings (extra `offline`): slower, and better at topics said in new words.
    With several `rounds`, the models of each learn from labels in which the errors that the one before was sure of (by
    a margin of `surest`) are put right, and the last ones judge the labels as given: where many labels are wrong, their
    errors no longer hide each other. `features` are those of `features_of` for the same texts, where the caller asks
    more than once about them: they are most of the work.
    Raises: MachineError if the extra is asked for and missing.
    """
    import numpy as np

    counts = Counter(labels)
    rare = {label: count for label, count in sorted(counts.items()) if count < FOLDS}
    rows = [row for row, label in enumerate(labels) if counts[label] >= FOLDS]
    most = min(ROWS, CELLS // max(1, len(counts)))
    if len(rows) > most:
        rows = [rows[at] for at in np.linspace(0, len(rows) - 1, most).astype(int).tolist()]
        counts = Counter(labels[row] for row in rows)
        rows = [row for row in rows if counts[labels[row]] >= FOLDS]
    classes = sorted({labels[row] for row in rows})
    if len(classes) < 2:
        return Noise([], 0, rare, 0.0, {}, f"fewer than two classes have {FOLDS} rows or more")
    read = [texts[row] for row in rows]
    column = {label: at for at, label in enumerate(classes)}
    given = np.array([column[labels[row]] for row in rows])
    if features is None or len(rows) < len(texts):
        features = features_of(read, embeddings)
    learned = given
    for last in range(rounds - 1, -1, -1):
        made = _predictions(features, read, learned, len(classes))
        if not made:
            return Noise([], 0, rare, 0.0, {}, "the texts have no words")
        weights = _mixed(np.stack([chances[np.arange(len(rows)), learned] for chances in made.values()], axis=1))
        chances = sum(weight * one for weight, one in zip(weights, made.values()))
        order, wrong, other = confident_learning(chances, given)
        own = chances[np.arange(len(rows)), given]
        if last:
            learned = np.where(wrong & (chances[np.arange(len(rows)), other] - own >= surest), other, given)
    suspects = [
        Suspect(
            rows[at],
            classes[given[at]],
            classes[other[at]],
            round(float(chances[at, other[at]] - own[at]), 4),
            bool(wrong[at]),
        )
        for at in order.tolist()
    ]
    agreement = float((chances.argmax(axis=1) == given).mean())
    return Noise(
        suspects, len(rows), rare, round(agreement, 4), {name: round(float(w), 3) for name, w in zip(made, weights)}
    )


def confident_learning(chances: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows from the least to the most probable label; which rows are counted as wrong; the best other label of each.

    A row counts for class c if c's probability reaches the mean it has over the rows labelled c; for the most probable
    such c if there are several. What is counted, scaled to all rows of each given label, says how many rows labelled a
    should be b; that many, with the largest margin of b over a, are wrong (the paper's prune by noise rate).
    Shapes: chances [N, C], given [N] -> [N], [N], [N].
    """
    import numpy as np

    rows = np.arange(len(given))
    own = chances[rows, given]
    usual = np.bincount(given, weights=own, minlength=chances.shape[1])
    sizes = np.bincount(given, minlength=chances.shape[1])
    # A class without rows has no usual probability: nothing counts for it.
    usual = np.where(sizes > 0, usual / np.maximum(1, sizes), np.inf)
    sure = np.where(chances >= usual, chances, -1.0)
    counts = sure.max(axis=1) > 0
    joint = np.zeros((chances.shape[1],) * 2)
    np.add.at(joint, (given[counts], sure.argmax(axis=1)[counts]), 1)
    others = chances.copy()
    others[rows, given] = -1.0
    other = others.argmax(axis=1)
    margin = np.round(chances[rows, other] - own, 6)
    wrong = np.zeros(len(given), dtype=bool)
    for a, b in np.argwhere(joint > 0).tolist():
        if a != b:
            mine = np.flatnonzero((given == a) & (other == b) & (margin > 0))
            number = int(np.rint(joint[a, b] / joint[a].sum() * sizes[a]))
            wrong[mine[np.lexsort((mine, -margin[mine]))[:number]]] = True
    return np.lexsort((rows, np.round(own, 6))), wrong, other


def features_of(texts: Sequence[str], embeddings: bool = False) -> dict[str, Any]:
    """What the models see of the texts: word weights, condensed ones, sentence embeddings. Shapes: [N, ...] each."""
    import numpy as np

    from attune.data.embeddings import minilm, missing
    from attune.data.features import condensed, tfidf

    found: dict[str, Any] = {}
    if (matrix := tfidf(texts)) is not None:
        found |= {"words": matrix, "condensed": condensed(matrix)}
    if embeddings:
        if missing():
            raise MachineError(
                "sentence embeddings are not installed", fix=f"pip install {' '.join(map(repr, missing()))}"
            )
        found["embeddings"] = np.asarray(minilm()(list(texts)))
    return found


def _predictions(features: dict[str, Any], texts: list[str], labels: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Probabilities out of fold by each model. Shapes: [N, C] each."""
    import numpy as np

    from attune.data.features import ridge_out_of_fold, text_folds

    folds = text_folds(texts, [str(one) for one in labels.tolist()], FOLDS)
    found: dict[str, np.ndarray] = {}
    targets = np.eye(classes)[labels]
    if "words" in features and len(np.unique(folds)) > 1:
        found["naive Bayes on words"] = _tempered(_bayes(features["words"], labels, folds, classes), labels)
        scores = ridge_out_of_fold(features["condensed"], targets, folds, 1.0)
        found["ridge on condensed TF-IDF"] = _tempered(scores, labels)
    if "embeddings" in features:
        scores = ridge_out_of_fold(features["embeddings"], targets, folds, 10.0)
        found["ridge on MiniLM embeddings"] = _tempered(scores, labels)
    return found


def _bayes(matrix: np.ndarray, given: np.ndarray, folds: np.ndarray, classes: int) -> np.ndarray:
    import numpy as np
    from sklearn.naive_bayes import MultinomialNB

    scores = np.full((len(given), classes), -np.inf)
    for fold in np.unique(folds):
        held = folds == fold
        model = MultinomialNB(alpha=0.05).fit(matrix[~held], given[~held])
        scores[np.ix_(held, model.classes_)] = model.predict_joint_log_proba(matrix[held])
    scores -= scores.max(axis=1, keepdims=True)
    return np.maximum(scores, -50.0)  # also of a class that the other folds do not have


def _tempered(scores: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Scores as probabilities, at the temperature that makes the given labels most probable."""
    import numpy as np
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(given))
    found = minimize_scalar(
        lambda log_scale: -log_softmax(scores * np.exp(log_scale), axis=1)[rows, given].mean(),
        bounds=(-4, 5),
        method="bounded",
        options={"maxiter": 30},
    )
    return np.exp(log_softmax(scores * np.exp(found.x), axis=1))


def _mixed(own: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Weights of a mixture that make the given labels most probable, by expectation maximisation.

    Shapes: own [N, K] -> [K].
    """
    import numpy as np

    weights = np.full(own.shape[1], 1 / own.shape[1])
    for _ in range(rounds):
        parts = own * weights + 1e-12
        weights = (parts / parts.sum(axis=1, keepdims=True)).mean(axis=0)
    return weights
