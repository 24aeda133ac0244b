"""Text as it stands."""

from __future__ import annotations

from attune.data.templates.base import Template


class NoTemplate(Template):
    """Prompts stay as they are, and answers are judged by all general figures.

    What a pair such as input/output is for is not known: name the template where it is one of the others.
    """

    name = "none"
    metrics = ("rougeL", "rouge1", "rouge2", "chrf", "bleu", "exact_match", "loss", "perplexity", "stop_rate",
               "invalid_rate")  # fmt: skip
    primary = "rougeL"
