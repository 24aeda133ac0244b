"""Print how far word counting gets on the example claims (scikit-learn, no neural model).

Run `python examples/claims/measure.py`.  Train rows without a label and repeats of the same note are left out.
"""

import csv
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

HERE = Path(__file__).resolve().parent
WORD = re.compile(r"[a-z0-9]+")


def read(name):
    """The rows of one of the two files."""
    with open(HERE / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def usable(rows, target):
    """Notes and labels of the rows that have a label, each note once (case and blanks aside)."""
    once = {" ".join(WORD.findall(row["note"].lower())): row for row in rows if row[target]}
    return [row["note"] for row in once.values()], [row[target] for row in once.values()]


def score(truth, guess):
    """(macro-F1, accuracy)."""
    return f1_score(truth, guess, average="macro", zero_division=0), accuracy_score(truth, guess)


def tfidf_lr(train, test, sentence=lambda note: note):
    """The word-count yardstick: TF-IDF of words and word pairs, logistic regression, C and weights by CV."""
    pipe = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=300))
    grid = {"logisticregression__C": [0.3, 1, 3, 10, 30], "logisticregression__class_weight": [None, "balanced"]}
    search = GridSearchCV(pipe, grid, scoring="f1_macro", cv=StratifiedKFold(3, shuffle=True, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit([sentence(note) for note in train[0]], train[1])
    found = {key.split("__")[1]: value for key, value in search.best_params_.items()}
    return score(test[1], search.predict([sentence(note) for note in test[0]])), search.best_score_, found


def naive_bayes(train, test):
    """Single words counted, naive Bayes."""
    model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(*train)
    return score(test[1], model.predict(test[0]))


def length_only(train, test):
    """A small tree that sees nothing but the number of words and letters."""

    def size(notes):
        return np.array([[len(note.split()), len(note)] for note in notes])

    model = DecisionTreeClassifier(max_depth=5, class_weight="balanced", random_state=0).fit(size(train[0]), train[1])
    return score(test[1], model.predict(size(test[0])))


def last_sentence(note):
    """The last sentence of a note."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", re.sub(r"<[^>]+>|&nbsp;", " ", note).strip())[-1]


def known_words(train, test):
    """Share of the running words of test, names and numbers included, that occur somewhere in train."""
    seen = {word for note in train[0] for word in WORD.findall(note.lower())}
    words = [word for note in test[0] for word in WORD.findall(note.lower())]
    return sum(word in seen for word in words) / len(words)


def measure(target="claim_type"):
    """({figure: (macro-F1, accuracy)} on test, (macro-F1 by CV in train, what CV chose), sizes, overlap of words)."""
    train, test = usable(read("train"), target), usable(read("test"), target)
    majority = Counter(train[1]).most_common(1)[0][0]
    yardstick, cv, found = tfidf_lr(train, test)
    out = {"majority class": score(test[1], [majority] * len(test[1])), "tf-idf 1-2 + logistic regression": yardstick}
    out["unigram naive bayes"] = naive_bayes(train, test)
    out["note length only"] = length_only(train, test)
    out["last sentence only, tf-idf + lr"] = tfidf_lr(train, test, last_sentence)[0]
    return out, (cv, found), (len(train[1]), len(test[1])), known_words(train, test)


def main():
    """Print the figures for both targets."""
    for target in ("claim_type", "decision"):
        figures, (cv, found), sizes, known = measure(target)
        print(f"{target}: {sizes[0]} train notes, {sizes[1]} test notes, {known:.1%} of test words known")
        for name, (macro, accuracy) in figures.items():
            print(f"  {name:34s} macro-F1 {macro:.3f}  accuracy {accuracy:.3f}")
        print(f"  tf-idf within train, 3-fold: macro-F1 {cv:.3f} with {found}")


if __name__ == "__main__":
    main()
