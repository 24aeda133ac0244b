"""A finished run's model, ready to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import plugins
from attune.data.templates.base import tagged, wrapped
from attune.errors import UsageError
from attune.recipe import Recipe
from attune.records import Message, Record
from attune.runs import Run

if TYPE_CHECKING:
    from attune.evaluate.predictions import Predictions

__all__ = ["Tuned", "load"]


def load(run: Run | str | Path) -> Tuned:
    """The tuned model of a run.

    Raises: UsageError if the run has no model yet.
    """
    run = (run if isinstance(run, Run) else Run(run)).last
    if not (run.model_dir / "manifest.json").exists():
        raise UsageError(
            f"{run.path} has no model yet", why=f"its state is {run.status['state']}", fix="finish training first"
        )
    return Tuned(run)


class Tuned:
    """Answers texts (heads) or conversations (language models) exactly as it was trained: same rendering, same ids."""

    def __init__(self, run: Run):
        import torch

        from attune.data.desk import restored
        from attune.data.seq2seq import renderer_for
        from attune.model.load import load_tokenizer
        from attune.model.policy import Policy
        from attune.model.save import open_model

        self.run = run
        self.recipe = Recipe.load(run.path / "recipe.yaml")
        model, self.manifest = open_model(run.model_dir, self.recipe)
        self.tokenizer = load_tokenizer(self.recipe.model)
        self.labels: list[str] = self.manifest["labels"]
        self.task: str = self.manifest["task"]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.policy = Policy(model, head=self.manifest["head"]).to(self.device)
        self.layout = self.policy.settle()
        self.policy.eval()
        # Too long a request is cut as training rows were; where those were refused or left out, it is read whole.
        asked = self.recipe.data.truncate
        truncate = "left" if self.manifest["head"] == "lm" else asked if asked in ("left", "right") else "window"
        self.renderer = renderer_for(
            self.tokenizer,
            self.policy.config,
            template=self.recipe.model.chat_template,
            max_length=self.recipe.data.max_length or 512,
            truncate=truncate,
        )
        plugin: Any = plugins.get("objective", self.manifest["objective"])
        self.steps = restored(self.manifest["prepare"], self.task)
        self.objective = plugin(self.recipe.objective.options, labels=self.labels, task=self.task)

    @property
    def writes(self) -> bool:
        """Whether it is a language model (else it has a head for labels)."""
        return self.manifest["head"] == "lm"

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Labels of texts.

        Raises: UsageError for a language model: use `engine`.
        """
        from attune.evaluate.predict import predict_labels

        if self.writes:
            raise UsageError("this run's model writes text", fix="use run.load().engine, or `attune chat`")
        blank: Any = {
            "classification": self.labels[0] if self.labels else "",
            "multilabel": (),
            "tagging": (),
            "regression": 0.0,
        }
        records = [
            replace(self.prepared((Message("user", text),)), id=str(number), label=blank[self.task])
            for number, text in enumerate(texts)
        ]
        store = self.objective.store(records, self.renderer)
        pad = self.tokenizer.pad_token_id or 0
        return predict_labels(
            self.policy, self.objective, store, records, self.renderer, layout=self.layout, pad_id=pad
        )[0]

    def prepared(self, messages: Sequence[Message]) -> Record:
        """A request after the steps of `data.prepare` that the model's texts went through in training."""
        from attune.data.desk import through

        return through(self.steps, Record(id="request", prompt=tuple(messages)))

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """A conversation as token ids, up to where the answer begins. A single user turn is put as in training: behind
        the instruction of the run's template."""
        record = self.prepared(messages)
        data = self.recipe.data
        plugin: Any = plugins.get("template", "none" if data.template == "auto" else data.template)
        if not plugin.varies or data.instruction is not None:
            record = tagged(record, plugin.name, self.manifest.get("json_schema"), data.instruction)
            record = wrapped(record, brief=bool(self.renderer.decoder_prefix))
        return self.renderer.prompt_ids(record.prompt, tools)

    @property
    def engine(self) -> Any:
        """A `generate.Engine` over the model."""
        from attune.generate.seq2seq import engine_of

        stops = self.manifest["stop_ids"] or list(self.renderer.stop_ids)
        return engine_of(
            self.policy.model,
            self.tokenizer,
            self.renderer,
            stop_ids=stops,
            device=self.device,
            repetition_penalty=self.recipe.evaluate.repetition_penalty,
        )
