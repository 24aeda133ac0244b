"""Who is asked: the saved model, and every baseline that fits the task and the base."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from attune import plugins
from attune.evaluate.baselines.base import Context
from attune.evaluate.predict import predict_labels, predict_text
from attune.evaluate.predictions import Predictions
from attune.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepare import Prepared
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.runs import Run

__all__ = ["placed", "tuned_answers", "baseline_answers"]


def placed(model: Any, head: str, recipe: Recipe, *, fast: bool = False) -> tuple[Policy, str]:
    """A model ready to score: float32 on a CPU (what others will load), the recipe's format on a GPU.

    `fast` takes the recipe's format on a CPU too: for the base's prompted answers, which cost most of an evaluation.
    """
    import torch

    from attune.model.load import torch_dtype
    from attune.model.policy import Policy

    policy = Policy(model, head=head)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy.to(device)
    layout = policy.settle(layout="auto")
    if fast or device == "cuda":
        policy.to(torch_dtype(recipe.model))
    policy.eval()
    return policy, layout


def tuned_answers(
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    records: list[Record],
    asked: list[Record],
) -> Predictions:
    """The saved folder's answers: what is measured is what will be shipped."""
    from attune.model.save import open_model

    model, _ = open_model(run.model_dir, recipe)
    policy, layout = placed(model, objective.head, recipe)
    common: dict[str, Any] = {
        "layout": layout,
        "pad_id": tokenizer.pad_token_id or 0,
        "batch_tokens": recipe.evaluate.batch_tokens,
    }
    if objective.head != "lm":
        found, _ = predict_labels(policy, objective, prepared.stores[part], records, prepared.renderer, **common)
        return found
    if prepared.task == "text":
        found, _ = predict_text(policy, objective, prepared.stores[part], records, **common)
        return found
    found = _answers(policy, prepared, tokenizer, asked, recipe, system="tuned")
    found.logp = _reference_logp(policy, objective, prepared, asked, **common)
    return found


def _reference_logp(
    policy: Policy, objective: Objective, prepared: Prepared, asked: list[Record], **common: Any
) -> np.ndarray:
    store = objective.store(asked, prepared.renderer)
    return predict_text(policy, objective, store, asked, **common)[0].logp  # type: ignore[return-value]


def _answers(
    policy: Policy,
    prepared: Prepared,
    tokenizer: PreTrainedTokenizerBase,
    asked: list[Record],
    recipe: Recipe,
    *,
    system: str,
) -> Predictions:
    from attune.generate.seq2seq import engine_of

    started = time.monotonic()
    device = str(next(policy.parameters()).device)
    engine = engine_of(
        policy.model,
        tokenizer,
        prepared.renderer,
        device=device,
        batch_tokens=recipe.evaluate.batch_tokens,
        repetition_penalty=recipe.evaluate.repetition_penalty,
    )
    prompts = [prepared.renderer.prompt_ids(record) for record in asked]
    asked_for = recipe.evaluate
    made = engine.generate(
        prompts, max_new_tokens=asked_for.max_new_tokens, temperature=asked_for.temperature, seed=recipe.seed
    )
    texts = [engine.text(one.ids) for one in made]
    return Predictions(
        system, list(texts), raw=texts, stopped=[one.stopped for one in made], seconds=time.monotonic() - started
    )


def baseline_answers(
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    asked: list[Record],
    say: Callable[[str], None],
) -> list[Predictions]:
    """Every baseline that fits the task and the base, each with its reason where it cannot run."""
    from attune.generate.seq2seq import engine_of
    from attune.model.heads import writes
    from attune.model.load import load_config, load_model

    wanted = recipe.evaluate.baselines
    found: dict[str, Any] = plugins.find("baseline")
    names = (
        [name for name, plugin in found.items() if prepared.task in plugin.tasks] if wanted == "auto" else list(wanted)
    )  # type: ignore[attr-defined]
    if not names and prepared.task != "text":
        return []
    config = load_config(recipe.model)
    writer = writes(config)
    common: dict[str, Any] = {"pad_id": tokenizer.pad_token_id or 0, "batch_tokens": recipe.evaluate.batch_tokens}
    base_policy, layout = None, "padded"
    if writer and recipe.model.from_config is None:
        base_policy, layout = placed(load_model(recipe.model, head="lm"), "lm", recipe, fast=prepared.task != "text")
    if prepared.task == "text":
        if base_policy is None or wanted == []:
            return []
        return [
            predict_text(base_policy, objective, prepared.stores[part], asked, layout=layout, system="base", **common)[
                0
            ]
        ]
    context = Context(
        task=prepared.task,
        train=prepared.train,
        test=asked,
        labels=prepared.labels
        if prepared.task != "tagging"
        else sorted({name[2:] for name in prepared.labels if name != "O"}),
        engine=None
        if base_policy is None
        else engine_of(
            base_policy.model,
            tokenizer,
            prepared.renderer,
            device=str(next(base_policy.parameters()).device),
            batch_tokens=recipe.evaluate.batch_tokens,
            repetition_penalty=recipe.evaluate.repetition_penalty,
        ),
        encoder=None if writer else _encoder(recipe, tokenizer),
        prompt_ids=(lambda messages, tools: prepared.renderer.prompt_ids(messages, tools)) if writer else None,
        stop_ids=list(prepared.renderer.stop_ids) if writer else [],
        instruction=recipe.data.instruction,
        seed=recipe.seed,
        few_shot=recipe.evaluate.few_shot,
        max_new_tokens=recipe.evaluate.max_new_tokens,
        temperature=recipe.evaluate.temperature,
        context_length=getattr(config.get_text_config(), "max_position_embeddings", None),
    )
    systems = []
    for name in names:
        baseline: Any = plugins.get("baseline", name)()
        if reason := baseline.why(context):
            say(f"{name} left out: {reason}")
            continue
        answer = baseline.predict(context)
        systems.append(answer)
        say(f"{name}: {answer.seconds + answer.trained_seconds:.1f} s{'; ' + answer.note if answer.note else ''}")
        if name == "zero_shot" and prepared.task == "generation" and base_policy is not None and answer.logp is None:
            answer.logp = _reference_logp(base_policy, objective, prepared, asked, layout=layout, **common)
    return systems


def _encoder(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[str]], np.ndarray]:
    """Texts -> mean-pooled last hidden states of the base before tuning. Shapes: [N, H]."""
    import torch
    from transformers import AutoModel

    from attune.model.load import resolve

    model = AutoModel.from_pretrained(resolve(recipe.model.base), use_safetensors=True).eval()

    @torch.inference_mode()
    def encode(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        found: list[Any] = [None] * len(texts)
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            limit = getattr(model.config, "max_position_embeddings", 512)
            rows = tokenizer(
                [texts[n] for n in chosen],
                padding=True,
                truncation=True,
                max_length=min(limit, 512),
                return_tensors="pt",
            )
            hidden = model(**rows).last_hidden_state
            mask = rows["attention_mask"][..., None].to(hidden.dtype)
            for number, row in zip(chosen, ((hidden * mask).sum(1) / mask.sum(1)).float().numpy()):
                found[number] = row
        return np.stack(found)

    return encode
