"""The base model shown a few training examples in the prompt: the strongest thing to try before tuning."""

from __future__ import annotations

from attune.evaluate.baselines.base import Context
from attune.evaluate.baselines.prompting import answer, why_not
from attune.evaluate.predictions import Predictions
from attune.records import Record

__all__ = ["FewShot", "FewShotRetrieved"]

TASKS = ("classification", "multilabel", "tagging", "generation")


class FewShot:
    """The same k examples for every question, one of each class in turn; an encoder base takes k per class."""

    name = "few_shot"
    tasks = TASKS

    def why(self, context: Context) -> str | None:
        return why_not(context, examples=True)

    def predict(self, context: Context) -> Predictions:
        def choose(pool: list[Record], asked: list[Record]) -> list[list[Record]]:
            from attune.generate.prompts import fixed_examples

            return [fixed_examples(pool, context.few_shot, context.seed)] * len(asked)

        return answer(context, self.name, choose)


class FewShotRetrieved:
    """The k training examples nearest to each question in words (TF-IDF cosine)."""

    name = "few_shot_retrieved"
    tasks = TASKS

    def why(self, context: Context) -> str | None:
        if context.engine is None and context.encoder is not None:
            return "an encoder base has no prompt to put examples in"
        return why_not(context, examples=True)

    def predict(self, context: Context) -> Predictions:
        def choose(pool: list[Record], asked: list[Record]) -> list[list[Record]]:
            from attune.generate.prompts import nearest_examples

            return nearest_examples(pool, asked, context.few_shot)

        return answer(context, self.name, choose)
