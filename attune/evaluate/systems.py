"""Who is asked: the saved model, and every baseline that fits the task and the base."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from attune import plugins
from attune.data.prepared import kinds_of
from attune.data.some import spread
from attune.data.written import WRITABLE, read_back
from attune.evaluate.baselines.base import Context
from attune.evaluate.predict import predict_labels, predict_text
from attune.evaluate.predictions import Predictions
from attune.records import Message, Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepared import Prepared
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.runs import Run

__all__ = [
    "placed",
    "placed_base",
    "tuned_answers",
    "answers_of",
    "baseline_answers",
    "baseline_names",
    "context_of",
    "reference_logp",
    "asked_rows",
]


def asked_rows(recipe: Recipe, prepared: Prepared, objective: Objective, records: list[Record]) -> list[Record]:
    """Those that every system answers: all, or where answers are written, `evaluate.generate_rows` of them."""
    if prepared.task == "generation" or (objective.head == "lm" and prepared.task in WRITABLE):
        return [records[number] for number in spread(len(records), recipe.evaluate.generate_rows)]
    return records


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


def placed_base(recipe: Recipe, *, fast: bool) -> tuple[Policy | None, str]:
    """The untuned base ready to be asked; None where it does not write text."""
    from attune.model.heads import writes
    from attune.model.load import load_config, load_model

    if recipe.model.from_config is not None or not writes(load_config(recipe.model)):
        return None, "padded"
    return placed(load_model(recipe.model, head="lm"), "lm", recipe, fast=fast)


def tuned_answers(
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    records: list[Record],
    asked: list[Record],
) -> list[Predictions]:
    """The saved folder's answers: what is measured is what will be shipped."""
    from attune.model.save import open_model

    model, _ = open_model(run.model_dir, recipe)
    policy, layout = placed(model, objective.head, recipe)
    return answers_of(policy, layout, recipe, prepared, objective, tokenizer, part, records, asked)


def answers_of(
    policy: Policy,
    layout: str,
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    records: list[Record],
    asked: list[Record],
) -> list[Predictions]:
    """A tuned model's answers to the rows of one task; a second way of answering follows where there is one."""
    common: dict[str, Any] = {
        "layout": layout,
        "pad_id": tokenizer.pad_token_id or 0,
        "batch_tokens": recipe.evaluate.batch_tokens,
    }
    if objective.head != "lm":
        found, _ = predict_labels(policy, objective, prepared.stores[part], records, prepared.renderer, **common)
        return [found]
    if prepared.task == "text":
        found, _ = predict_text(policy, objective, prepared.stores[part], records, **common)
        return [found]
    if prepared.task in WRITABLE:
        return _written(policy, recipe, prepared, tokenizer, asked)
    found = _answers(policy, prepared, tokenizer, asked, recipe, system="tuned")
    found.logp = reference_logp(policy, objective, prepared, asked, **common)
    return [found]


def _written(
    policy: Policy, recipe: Recipe, prepared: Prepared, tokenizer: PreTrainedTokenizerBase, asked: list[Record]
) -> list[Predictions]:
    """Labels that a language model writes, read back strictly; of one class, first the likeliest of the known ones."""
    kinds = kinds_of(prepared.task, prepared.labels)
    wrote = _answers(policy, prepared, tokenizer, asked, recipe, system="tuned", sampled=False)
    wrote.outputs = [
        read_back(text, record, prepared.task, kinds) for text, record in zip(wrote.raw or [], asked, strict=True)
    ]
    wrote.note = "read from what it writes, strictly"
    if prepared.task != "classification":
        return [wrote]
    from attune.generate.labels import score_labels, to_probabilities

    started = time.monotonic()
    engine = _engine(policy, prepared, tokenizer, recipe)
    prompts = [prepared.renderer.prompt_ids(prepared.asked(record)) for record in asked]
    answers = [_supervised(prepared, label) for label in kinds]
    chances = to_probabilities(score_labels(engine, prompts, answers, stop=False))
    likeliest = Predictions(
        "tuned",
        [kinds[best] for best in chances.argmax(1)],
        scores=chances,
        labels=kinds,
        seconds=time.monotonic() - started,
        note="the likeliest of the known labels",
    )
    wrote.system = "tuned_generated"
    return [likeliest, wrote]


def _supervised(prepared: Prepared, label: str) -> list[int]:
    """The tokens that training taught as the answer of a label, the stop included."""
    (example,) = prepared.renderer.sft(prepared.asked(Record("label", (Message("user", "x"),), label=label)))
    return example.ids[example.weight > 0].tolist()


def reference_logp(
    policy: Policy, objective: Objective, prepared: Prepared, asked: list[Record], **common: Any
) -> np.ndarray:
    """Log-probability of the answers that the records give. Shapes: [N, 2], see `predict_text`."""
    store = objective.store([prepared.asked(record) for record in asked], prepared.renderer)
    return predict_text(policy, objective, store, asked, **common)[0].logp  # type: ignore[return-value]


def _engine(policy: Policy, prepared: Prepared, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Any:
    from attune.generate.seq2seq import engine_of

    return engine_of(
        policy.model,
        tokenizer,
        prepared.renderer,
        device=str(next(policy.parameters()).device),
        batch_tokens=recipe.evaluate.batch_tokens,
        repetition_penalty=recipe.evaluate.repetition_penalty if prepared.task not in WRITABLE else 1.0,
    )


def _answers(
    policy: Policy,
    prepared: Prepared,
    tokenizer: PreTrainedTokenizerBase,
    asked: list[Record],
    recipe: Recipe,
    *,
    system: str,
    sampled: bool = True,
) -> Predictions:
    """What the model writes; `sampled=False` always takes the likeliest token, as labels are read."""
    started = time.monotonic()
    engine = _engine(policy, prepared, tokenizer, recipe)
    prompts = [prepared.renderer.prompt_ids(prepared.asked(record)) for record in asked]
    made = engine.generate(
        prompts,
        max_new_tokens=recipe.evaluate.max_new_tokens,
        temperature=recipe.evaluate.temperature if sampled else 0.0,
        seed=recipe.seed,
    )
    texts = [engine.text(one.ids) for one in made]
    return Predictions(
        system, list(texts), raw=texts, stopped=[one.stopped for one in made], seconds=time.monotonic() - started
    )


def baseline_names(recipe: Recipe, task: str, *, one_of_several: bool = False) -> list[str]:
    """The baselines that a recipe asks for; `auto` means all that fit the task."""
    wanted = recipe.evaluate.baselines
    found: dict[str, Any] = plugins.find("baseline")
    names = [name for name, plugin in found.items() if task in plugin.tasks]
    if wanted == "auto":
        return names
    # one of several tasks takes those of the list that fit it
    return [name for name in wanted if name in names or not one_of_several]


def context_of(
    recipe: Recipe, prepared: Prepared, tokenizer: PreTrainedTokenizerBase, asked: list[Record], base: Policy | None
) -> Context:
    """What baselines are told and may use; `base` is the untuned model, None where it does not write text."""
    from attune.model.heads import writes
    from attune.model.load import load_config

    config = load_config(recipe.model)
    writer = writes(config)

    def shown(records: list[Record]) -> list[Record]:
        return [prepared.asked(record) for record in records] if prepared.task == "generation" else records

    return Context(
        task=prepared.task,
        train=shown(prepared.train),
        test=shown(asked),
        labels=kinds_of(prepared.task, prepared.labels),
        engine=None if base is None else _engine(base, prepared, tokenizer, recipe),
        encoder=None if writer else _encoder(recipe, tokenizer),
        prompt_ids=(lambda messages, tools: prepared.renderer.prompt_ids(messages, tools)) if writer else None,
        stop_ids=list(prepared.renderer.stop_ids) if writer else [],
        instruction=prepared.instruction or recipe.data.instruction,
        seed=recipe.seed,
        few_shot=recipe.evaluate.few_shot,
        max_new_tokens=recipe.evaluate.max_new_tokens,
        temperature=recipe.evaluate.temperature,
        context_length=getattr(config.get_text_config(), "max_position_embeddings", None),
    )


def baseline_answers(
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    asked: list[Record],
    say: Callable[[str], None],
    base: tuple[Policy, str] | None = None,
    too_dear: Callable[[str], str | None] = lambda name: None,
) -> list[Predictions]:
    """Every baseline that fits the task and the base, each with its reason where it cannot run.

    `base` is the untuned model where it is loaded already. `too_dear` is asked before each one: a reason means that it
    is left out for lack of time.
    """
    names = baseline_names(recipe, prepared.task, one_of_several=base is not None)
    if not names and prepared.task != "text":
        return []
    common: dict[str, Any] = {"pad_id": tokenizer.pad_token_id or 0, "batch_tokens": recipe.evaluate.batch_tokens}
    base_policy, layout = base or placed_base(recipe, fast=prepared.task != "text")
    if prepared.task == "text":
        if base_policy is None or recipe.evaluate.baselines == []:
            return []
        return [
            predict_text(base_policy, objective, prepared.stores[part], asked, layout=layout, system="base", **common)[
                0
            ]
        ]
    context = context_of(recipe, prepared, tokenizer, asked, base_policy)
    systems = []
    for name in names:
        baseline: Any = plugins.get("baseline", name)()
        unfit = None if prepared.task in baseline.tasks else f"it does not fit {prepared.task} data"
        if reason := unfit or baseline.why(context) or too_dear(name):
            say(f"{name} left out: {reason}")
            continue
        answer = baseline.predict(context)
        systems.append(answer)
        say(f"{name}: {answer.seconds + answer.trained_seconds:.1f} s{'; ' + answer.note if answer.note else ''}")
        if name == "zero_shot" and prepared.task == "generation" and base_policy is not None and answer.logp is None:
            answer.logp = reference_logp(base_policy, objective, prepared, asked, layout=layout, **common)
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
