"""People's names by presidio's tagger (a spaCy model), loaded from this machine only."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

from attune.data.privacy.detectors.base import Found
from attune.errors import MachineError

__all__ = ["tagger"]


@cache
def tagger(model: str, language: str = "en") -> Callable[[str], list[Found]]:
    """A detector of `name`. `model` is a spaCy model that is installed, or a folder.

    Raises: MachineError naming the line that installs what is missing. Nothing is downloaded.
    """
    try:
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer
    except ImportError as error:
        raise MachineError(
            "names: presidio needs presidio-analyzer, which is not installed",
            fix='pip install "attune[pii]", or use names: light',
        ) from error
    if not Path(model).is_dir() and importlib.util.find_spec(model) is None:
        # presidio would download it now, and exit the process where it cannot
        raise MachineError(
            f"names: presidio needs the spaCy model '{model}', which is not installed",
            fix=f"python -m spacy download {model}, or set presidio_model to a folder that holds one",
        )
    nlp = SpacyNlpEngine(
        models=[{"lang_code": language, "model_name": model}],
        ner_model_configuration=NerModelConfiguration(
            model_to_presidio_entity_mapping={"PER": "PERSON", "PERSON": "PERSON"}, default_score=0.85
        ),
    )
    nlp.load()
    registry = RecognizerRegistry(supported_languages=[language])
    registry.add_recognizer(SpacyRecognizer(supported_language=language, supported_entities=["PERSON"]))
    engine = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[language])

    def detect(text: str) -> list[Found]:
        hits = engine.analyze(text, language=language, entities=["PERSON"])
        # it takes numbers and cell borders for people
        return [
            Found(hit.start, hit.end, "name", hit.score)
            for hit in hits
            if not any(char.isdigit() or char in "[]@|" for char in text[hit.start : hit.end])
        ]

    return detect
