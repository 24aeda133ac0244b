"""Word counts and a linear model: the baseline that a language model must earn its cost against."""

from __future__ import annotations

from typing import Any

from attune.evaluate.baselines.base import Context
from attune.evaluate.baselines.linear import predict_linear
from attune.evaluate.predictions import Predictions

__all__ = ["Tfidf"]


class Tfidf:
    """TF-IDF of words and word pairs, then logistic regression (ridge for numbers)."""

    name = "tfidf"
    tasks = ("classification", "multilabel", "regression")

    def why(self, context: Context) -> str | None:
        if not context.labelled:
            return "no training record has a label"
        if not any(len(word) > 1 for record in context.labelled for word in record.text.split()):
            return "the training texts hold no words"
        return None

    def predict(self, context: Context) -> Predictions:
        return predict_linear(context, self.name, _represent, (1.0, 10.0, 100.0), "TF-IDF of words and word pairs")


def _represent(texts: list[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), strip_accents="unicode").fit(texts).transform
