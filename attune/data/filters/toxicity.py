"""Rows with insults or threats: by a word list, and by a classifier of the user's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from attune.data.filters.base import Broken, Filter
from attune.data.steps import Change
from attune.errors import MachineError, RecipeError
from attune.plugins import Options, nearest
from attune.records import Record

WORDS = (
    "airhead blockhead bonehead cretin cretins dimwit dimwits dumbass dunce fathead halfwit halfwits idiot idiots "
    "imbecile imbeciles jackass knucklehead lowlife moron morons nitwit nitwits numbskull pinhead scum "
    "scumbag simpleton weirdo wimp"
).split()
PHRASES = (
    "shut up",
    "drop dead",
    "go to hell",
    "kill yourself",
    "screw you",
    "piece of garbage",
    "waste of space",
    "nobody likes you",
    "i will kill you",
    "i'll kill you",
    "i will hurt you",
    "i'll hurt you",
    "you deserve to die",
)
BATCH = 32


class Toxicity(Filter):
    """Leaves out rows with abusive words, or that a classifier finds toxic.

    The list is short: plain English insults of a person, and threats. It is a coarse sieve that knows neither context
    nor quotation, nor swear words and slurs. Name a list of your own for your domain and languages, or a classifier.
    """

    name = "toxicity"
    learns = True  # the classifier reads all rows in batches

    class Config(Options):
        words: bool = True
        """Use the built-in English list."""
        words_file: str | None = None
        """A text file with a word or phrase a line, added to the list. Lines that begin with # are comments."""
        max_matches: int = Field(default=0, ge=0)
        """A text may have this many matches; one with more is left out."""
        classifier: str | None = None
        """Folder of a text-classification model (transformers, or a run of attune); its score counts too."""
        toxic_labels: tuple[str, ...] = ()
        """Classes of the classifier that mean toxic. Empty: those named toxic, toxicity, offensive, hate, abusive,
        insult or threat."""
        threshold: float = Field(default=0.5, gt=0, le=1)
        """A row goes when the scores of its toxic classes reach this: the highest of them."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        words = [*WORDS, *PHRASES] if self.options.words else []
        if self.options.words_file:
            words += _own_words(Path(self.options.words_file))
        if not words and not self.options.classifier:
            raise RecipeError(
                "step 'toxicity' has neither words nor a classifier",
                fix="set words_file or classifier, or leave it out",
            )
        self.pattern = _pattern(words) if words else None
        self.scores: dict[int, tuple[str, float]] = {}

    def reads(self) -> list[Path]:
        words = [Path(self.options.words_file)] if self.options.words_file else []
        model = _model_folder(Path(self.options.classifier)) if self.options.classifier else None
        return words + (sorted(path for path in model.rglob("*") if path.is_file()) if model else [])

    def learn(self, train: Sequence[Record]) -> None:
        if self.options.classifier is None:
            return
        score = _classifier(Path(self.options.classifier), self.options.toxic_labels)
        for start in range(0, len(train), BATCH):
            texts = [record.full_text for record in train[start : start + BATCH]]
            for number, (label, value) in enumerate(score(texts), start):
                if value >= self.options.threshold:
                    self.scores[number] = (label, value)

    def judge(self, text: str) -> Broken | None:
        if self.pattern is None:
            return None
        found = self.pattern.findall(text.lower().replace("’", "'"))
        if len(found) <= self.options.max_matches:
            return None
        return Broken(
            "words", len(found), f"{len(found)} abusive words or phrases: {', '.join(sorted(set(found))[:5])}"
        )

    def apply(self, record: Record, number: int) -> Change | None:
        change = super().apply(record, number)
        if change is not None or number not in self.scores:
            return change
        label, value = self.scores[number]
        self.broken["classifier"] += 1
        reason = f"the classifier finds it {label} with {value:.0%}"
        return Change.drop(record, reason, rule="classifier", value=round(value, 4))


def _pattern(words: list[str]) -> re.Pattern[str]:
    # The longest first, so that a phrase is found before its first word.
    ordered = sorted(set(words), key=lambda word: (-len(word), word))
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, ordered)) + r")(?!\w)")


def _own_words(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"step 'toxicity' cannot read the word list {path}", why=str(error), fix="a UTF-8 file, a word a line"
        ) from error
    return [word for line in lines if (word := " ".join(line.lower().split())) and not word.startswith("#")]


MEANS_TOXIC = ("toxic", "toxicity", "offensive", "hate", "abusive", "insult", "threat", "obscene")


def _model_folder(folder: Path) -> Path:
    """The folder itself, or the model in it where it is a run of attune."""
    return folder / "model" if (folder / "model" / "config.json").exists() else folder


def _classifier(folder: Path, wanted: Sequence[str]) -> Callable[[list[str]], list[tuple[str, float]]]:
    """Texts -> of each the toxic class with the highest score.

    Raises: RecipeError if the folder holds no such model, or it has no such class.
    """
    folder = _model_folder(folder)
    if not (folder / "config.json").exists():
        raise RecipeError(
            f"step 'toxicity': {folder} holds no model", why="there is no config.json", fix="name a model folder"
        )
    try:
        from transformers import pipeline

        classify = pipeline("text-classification", model=str(folder), device="cpu")
    except ImportError as error:
        raise MachineError("the classifier needs transformers", fix='pip install "attune"') from error
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(
            f"step 'toxicity': {folder} cannot be loaded as a text classifier", why=str(error).splitlines()[0]
        ) from error
    names = [str(name) for _, name in sorted(dict(classify.model.config.id2label or {}).items())]
    toxic = list(wanted) or [name for name in names if name.lower() in MEANS_TOXIC]
    unknown = [name for name in toxic if name not in names]
    if unknown or not toxic:
        what = (
            f"the classifier has no class '{unknown[0]}'{nearest(unknown[0], names)}"
            if unknown
            else ("no class of the classifier is named as if it meant toxic")
        )
        raise RecipeError(f"step 'toxicity': {what}", fix=f"toxic_labels: some of {', '.join(names)}")

    def scores(texts: list[str]) -> list[tuple[str, float]]:
        found: Any = classify(texts, top_k=None, truncation=True, batch_size=BATCH)
        best = []
        for row in found:
            value, label = max((float(one["score"]), str(one["label"])) for one in row if one["label"] in toxic)
            best.append((label, value))
        return best

    return scores
