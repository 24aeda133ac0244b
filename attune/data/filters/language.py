"""Rows in another language than those asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from attune.data.filters.base import Broken, Filter
from attune.errors import DataError, MachineError
from attune.plugins import Options, nearest

Detector = Callable[[str], tuple[str | None, float]]


class Language(Filter):
    """Leaves out rows whose language is known and not one of `keep`. What is too short or unsure to tell stays.

    lingua (75 languages) is used where it is installed, else a light guess by script, common words and letters
    (12 languages in Latin letters, 11 by their script). The facts say which, and count the languages found.
    """

    name = "language"

    class Config(Options):
        keep: tuple[str, ...] = Field(default=("en",), min_length=1)
        """Languages that stay, by their two letters (ISO 639-1): [en, de]."""
        min_chars: int = Field(default=20, ge=1)
        """Shorter texts stay: their language cannot be told."""
        min_confidence: float = Field(default=0.5, ge=0, le=1)
        """A language is believed from this confidence of the detector on."""
        detector: Literal["auto", "lingua", "light"] = "auto"
        """auto takes lingua where it is installed. Name one for the same result on every machine."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.detector, self.detect, known = _detector(self.options.detector)
        for language in self.options.keep:
            if language not in known:
                raise DataError(
                    f"step 'language': '{language}' is no language that the detector '{self.detector}' knows"
                    f"{nearest(language, sorted(known))}",
                    fix=f"one of: {', '.join(sorted(known))}",
                )
        self.found: Counter[str] = Counter()

    def judge(self, text: str) -> Broken | None:
        text = " ".join(text.split())
        language, confidence = self.detect(text) if len(text) >= self.options.min_chars else (None, 0.0)
        if language is None or confidence < self.options.min_confidence:
            self.found["unknown"] += 1
            return None
        self.found[language] += 1
        if language in self.options.keep:
            return None
        return Broken(language, round(confidence, 3), f"language {language}, kept are {', '.join(self.options.keep)}")

    def facts(self) -> dict[str, Any]:
        counts = dict(sorted(self.found.items(), key=lambda item: (-item[1], item[0])))
        return {**super().facts(), "detector": self.detector, "languages": counts}


def _detector(asked: str) -> tuple[str, Detector, set[str]]:
    """Name, function and known languages. Raises: MachineError if lingua is asked for and not there."""
    if asked != "light":
        try:
            from lingua import Language as Known
            from lingua import LanguageDetectorBuilder
        except ImportError as error:
            if asked == "lingua":
                raise MachineError(
                    "step 'language' asks for the detector lingua, which is not installed",
                    fix='pip install "attune[lang]", or detector: light',
                ) from error
        else:
            detector = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()

            def best(text: str) -> tuple[str | None, float]:
                found = detector.compute_language_confidence_values(text[:2000])
                return (found[0].language.iso_code_639_1.name.lower(), found[0].value) if found else (None, 0.0)

            return "lingua", best, {one.iso_code_639_1.name.lower() for one in Known.all()}
    from attune.data.filters.guess_language import LANGUAGES, guess

    return "light", guess, set(LANGUAGES)
