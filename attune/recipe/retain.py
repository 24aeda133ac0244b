"""The `retain` section of a recipe: what must not be forgotten, and what is done about it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from attune.recipe.base import Number, PluginChoice, Section, Share
from attune.recipe.model import Model

__all__ = ["Retain", "Replay", "Kl", "SuiteChoice", "points"]


class SuiteChoice(PluginChoice):
    """Further questions to measure a model on: the name of a suite, or a file of rows."""

    kind, key, fallback, nested = "suite", "suite", "", True

    @model_validator(mode="before")
    @classmethod
    def _file(cls, value: Any) -> Any:
        """A bare path is a file of rows."""
        is_path = isinstance(value, str) and value not in cls.names() and ("/" in value or "." in value)
        return {"rows": {"path": value}} if is_path else value


class Replay(Section):
    """Old examples among the new ones; `replay: 0.1` is short for `{share: 0.1}`."""

    share: Share = 0.1
    """Share of the examples of every step that are replayed."""
    path: str | list[str] | None = None
    """Where they come from: what the base learned from, or text like it. null takes a few hundred plain English
    sentences that come with attune."""


class Kl(Section):
    """Staying close to what the base would have said; `kl: 0.1` is short for `{strength: 0.1}`."""

    strength: Number = Field(gt=0, le=1000)
    """Weight of the divergence, in nats a token, beside the loss."""
    on: Literal["all", "training", "replay"] = "all"
    """On which tokens it is measured: those of the training rows, of the replayed ones, or all."""


def _short(key: str) -> BeforeValidator:
    """A bare number stands for the section's main key; 0 and false for nothing."""

    def widen(value: Any) -> Any:
        if value is False or (isinstance(value, int | float) and not isinstance(value, bool) and value == 0):
            return None
        return {key: value} if isinstance(value, int | float) and not isinstance(value, bool) else value

    return BeforeValidator(widen)


def points(value: Any) -> Any:
    """`1pt`, `0.5 pt`, `1` -> points."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:pts?|points?)?", value.strip())):
        return float(found[1])
    return None if value is False else value


def _named(value: Any) -> Any:
    """`starter` -> `{base: starter}`."""
    return {"base": value} if isinstance(value, str) else value


class Retain(Section):
    """What the model must not forget. A point is one per cent: of the answers that are right (or of the probability of
    the right ones), or by which the loss on a suite of text rises."""

    suites: list[SuiteChoice] = Field(default_factory=lambda: _usual(), validate_default=False)
    """What is asked before and after training: names of suites, or files of text or rows, as in `evaluate.suites`. []
    measures nothing."""
    limit: Annotated[float | None, BeforeValidator(points)] = Field(default=None, gt=0, le=100)
    """The most that any suite may lose, `1pt`. Given, it is measured at every evaluation, pulls are strengthened while
    it is exceeded, and it decides which weights are kept."""
    base: Annotated[Model | None, BeforeValidator(_named)] = None
    """The model that losses count from, as a name or with the keys of `model`. null is the one that training starts
    from; in later stages, the one that the first stage starts from, so that a limit holds for all stages together."""
    replay: Annotated[Replay | None, _short("share")] = None
    """Old examples among the new ones."""
    l2_sp: Number = Field(default=0.0, ge=0)
    """Pull of the trained weights to where they started (L2-SP), strength of the squared distance."""
    ewc: Number = Field(default=0.0, ge=0)
    """The same, each weight pulled by how much the base needs it (elastic weight consolidation). The importances have
    mean 1, so that strengths compare with those of `l2_sp`."""
    kl: Annotated[Kl | None, _short("strength")] = None
    """Staying close to what the base would have said."""
    interpolate: Annotated[bool | None, Field(strict=True)] = None
    """Whether weights between the base and the tuned model are tried after training, and the best of them kept. null
    means: where there is a limit."""

    @property
    def interpolates(self) -> bool:
        return self.limit is not None if self.interpolate is None else self.interpolate

    @property
    def chooses(self) -> bool:
        """Whether something is left to decide after training."""
        return self.limit is not None or self.interpolates


def _usual() -> list[SuiteChoice]:
    return [SuiteChoice.model_validate("texts"), SuiteChoice.model_validate("completions")]
