"""The base model asked without examples: what prompting alone reaches."""

from __future__ import annotations

from attune.evaluate.baselines.base import Context
from attune.evaluate.baselines.prompting import answer, by_generation, why_not
from attune.evaluate.predictions import Predictions

__all__ = ["ZeroShot", "ZeroShotGenerated"]


class ZeroShot:
    """Instruction and text only. Classes by label likelihood, spans and answers by generation; an encoder base
    compares the text with the label names.
    """

    name = "zero_shot"
    tasks = ("classification", "multilabel", "tagging", "generation")

    def why(self, context: Context) -> str | None:
        return why_not(context, examples=False)

    def predict(self, context: Context) -> Predictions:
        return answer(context, self.name, None)


class ZeroShotGenerated:
    """As zero_shot, but the class is read from free text, as an application without access to likelihoods would."""

    name = "zero_shot_generated"
    tasks = ("classification", "multilabel")

    def why(self, context: Context) -> str | None:
        if context.engine is None and context.encoder is not None:
            return "the base model does not write text"
        return why_not(context, examples=False)

    def predict(self, context: Context) -> Predictions:
        return by_generation(context, self.name, None)
