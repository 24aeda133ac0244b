"""The base model asked instead of tuned: shared by the zero-shot and few-shot baselines."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attune.evaluate.baselines.base import Context
from attune.evaluate.predictions import Predictions
from attune.records import Record

if TYPE_CHECKING:
    import numpy as np

    from attune.generate.prompts import Prompts

__all__ = ["Choose", "why_not", "answer", "by_likelihood", "by_generation", "by_writing", "by_embedding"]

Choose = Callable[[list[Record], list[Record]], list[list[Record]]]
"""(records to choose from, records asked about) -> each one's examples, most useful first."""

CHECKED = 64
"""Train records on which the length normalisation of label likelihoods is chosen."""
DEFAULT_CONTEXT = 2048
SHARPNESS = 20.0
"""Cosines times this are log-odds: makes probabilities of them, and does not change their order."""


def why_not(context: Context, *, examples: bool) -> str | None:
    """Why the base cannot be prompted for this task."""
    if examples and context.few_shot < 1:
        return "few_shot is 0"
    if examples and not (context.answered if context.task == "generation" else context.labelled):
        return "train has no examples to show"
    if context.task in ("classification", "multilabel", "tagging") and not context.labels:
        return "no label names are known"
    if context.engine is None or context.prompt_ids is None:
        if context.encoder is not None and context.task in ("classification", "multilabel"):
            return None
        return "the base model does not write text" if context.encoder is not None else "no base model to prompt"
    return None


def answer(context: Context, name: str, choose: Choose | None) -> Predictions:
    """The way of asking that fits the task and the base."""
    if context.engine is None or context.prompt_ids is None:
        return by_embedding(context, name, examples=choose is not None)
    if context.task == "generation":
        return by_writing(context, name, choose)
    if context.task == "tagging":
        return by_generation(context, name, choose)
    return by_likelihood(context, name, choose)


def _context_length(context: Context) -> int:
    limits = [context.context_length, context.engine.context_length]  # type: ignore[union-attr]
    known = [limit for limit in limits if limit is not None]
    return min(known, default=DEFAULT_CONTEXT) - context.engine.virtual_tokens  # type: ignore[union-attr]


def _prompts(context: Context, asked: list[Record], pool: list[Record], room: int, choose: Choose | None) -> Prompts:
    from attune.generate.prompts import label_prompts

    return label_prompts(
        asked,
        task=context.task,
        labels=context.labels,
        prompt_ids=context.prompt_ids,  # type: ignore[arg-type]
        chat=context.chat,
        context_length=_context_length(context),
        room=room,
        instruction=context.instruction,
        examples=choose(pool, asked) if choose else None,
    )


# by likelihood --------------------------------------------------------------------------------------------------------


def by_likelihood(context: Context, name: str, choose: Choose | None) -> Predictions:
    """The label that the base finds likeliest as the answer: never invalid, and with probabilities."""
    import numpy as np

    from attune.generate.labels import score_labels, to_probabilities

    engine = context.engine
    assert engine is not None
    # Without a template nothing but the end of the line tells where an answer ends.
    texts = list(context.labels) if context.chat else [f" {label}\n" for label in context.labels]
    tokens = [_encode(engine.tokenizer, text) for text in texts]
    room = max(map(len, tokens)) + 1
    train = context.labelled
    began = time.perf_counter()
    check = random.Random(context.seed).sample(train, min(CHECKED, len(train) // 2))
    normalise, note = "none", "label likelihood"
    if check:
        chosen = {record.id for record in check}
        pool = [record for record in train if record.id not in chosen]
        raw = score_labels(engine, _prompts(context, check, pool, room, choose).ids, tokens, stop=context.chat)
        lengths = np.array([len(row) + (1 if context.chat and engine.stop_ids else 0) for row in tokens])
        hits = {way: _hits(context, scores, check) for way, scores in (("none", raw), ("tokens", raw / lengths))}
        normalise = max(hits, key=lambda way: hits[way])
        way = "per token" if normalise == "tokens" else "summed"
        note = f"label likelihood {way} (chosen on {len(check)} of train)"
    trained = time.perf_counter()
    prompts = _prompts(context, context.test, train, room, choose)
    scores = score_labels(engine, prompts.ids, tokens, normalise=normalise, stop=context.chat)  # type: ignore[arg-type]
    chances = to_probabilities(scores)
    outputs, extra = _decide(context, chances)
    return Predictions(
        name,
        outputs,
        scores=chances,
        labels=list(context.labels),
        seconds=time.perf_counter() - trained,
        trained_seconds=trained - began,
        note="; ".join(part for part in (note, extra, prompts.note) if part),
    )


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _hits(context: Context, scores: np.ndarray, records: list[Record]) -> int:
    best = scores.argmax(1)
    return sum(
        context.labels[at] in (record.label if isinstance(record.label, tuple) else (record.label,))
        for at, record in zip(best, records)
    )


def _decide(context: Context, chances: np.ndarray) -> tuple[list[Any], str]:
    """Answers from probabilities: the likeliest class, or for several classes as many as train has on average."""
    if context.task == "classification":
        return [context.labels[at] for at in chances.argmax(1)], ""
    sizes = [len(record.label) for record in context.labelled]  # type: ignore[arg-type]
    count = min(len(context.labels), max(1, round(sum(sizes) / len(sizes)))) if sizes else 1
    rows = (-chances).argsort(axis=1, kind="stable")[:, :count]
    outputs = [tuple(context.labels[at] for at in sorted(row)) for row in rows]
    return outputs, f"the {count} likeliest classes (mean number in train)"


# by free text ---------------------------------------------------------------------------------------------------------


def by_generation(context: Context, name: str, choose: Choose | None) -> Predictions:
    """The label read from what the base writes; None where it names none."""
    from attune.generate.prompts import parse_label, parse_labels, parse_spans

    engine = context.engine
    assert engine is not None
    room = context.max_new_tokens
    if context.task != "tagging":
        longest = max(len(_encode(engine.tokenizer, label)) for label in context.labels)
        room = min(room, (longest + 8) * (4 if context.task == "multilabel" else 1))
    # Half of the context at most may be kept for the answer, or no text would fit a short one.
    room = max(1, min(room, _context_length(context) // 2))
    start = time.perf_counter()
    train = context.labelled
    prompts = _prompts(context, context.test, train, room, choose)
    written = engine.generate(prompts.ids, max_new_tokens=room, seed=context.seed)
    raw = [engine.text(item.ids) for item in written]
    read = raw if context.chat else [text.split("\n\n")[0].split("\nText:")[0] for text in raw]
    if context.task == "tagging":
        outputs: list[Any] = [parse_spans(text, rec.text, context.labels) for text, rec in zip(read, context.test)]
    elif context.task == "multilabel":
        outputs = [parse_labels(text, context.labels) for text in read]
    else:
        outputs = [parse_label(text, context.labels) for text in read]
    invalid = sum(output is None for output in outputs)
    note = f"written answers read back; {invalid} of {len(outputs)} invalid"
    return Predictions(
        name,
        outputs,
        raw=raw,
        stopped=[item.stopped for item in written],
        seconds=time.perf_counter() - start,
        note="; ".join(part for part in (note, prompts.note) if part),
    )


def by_writing(context: Context, name: str, choose: Choose | None) -> Predictions:
    """The base's own answer to each record's prompt, and the likelihood it gives to the reference."""
    import numpy as np

    from attune.generate.prompts import conversation_prompts

    engine = context.engine
    assert engine is not None and context.prompt_ids is not None
    length = _context_length(context)
    room = max(1, min(context.max_new_tokens, length // 2))
    start = time.perf_counter()
    prompts = conversation_prompts(
        context.test,
        prompt_ids=context.prompt_ids,
        context_length=length,
        room=room,
        examples=choose(context.answered, context.test) if choose else None,
    )
    written = engine.generate(prompts.ids, max_new_tokens=room, temperature=context.temperature, seed=context.seed)
    raw = [engine.text(item.ids) for item in written]
    outputs = [text.strip() for text in raw]
    if not context.chat and choose:
        # Without a template the examples are parted by blank lines, and a base goes on with a next example.
        outputs = [text.split("\n\n")[0].strip() for text in outputs]
    seconds = time.perf_counter() - start
    scored = [i for i, record in enumerate(context.test) if record.completions]
    logp = None
    if scored:
        logp = np.full((len(context.test), 2), np.nan)
        sequences = [
            (prompts.ids[i], _reference(context, context.test[i])[: length - len(prompts.ids[i])]) for i in scored
        ]
        logp[scored] = engine.logp(sequences)
    return Predictions(
        name,
        outputs,
        raw=raw,
        logp=logp,
        stopped=[item.stopped for item in written],
        seconds=seconds,
        note=prompts.note,
    )


def _reference(context: Context, record: Record) -> list[int]:
    return [*_encode(context.engine.tokenizer, record.completions[0].text), *context.stop_ids[:1]]  # type: ignore[union-attr]


# by embedding ---------------------------------------------------------------------------------------------------------


def by_embedding(context: Context, name: str, *, examples: bool) -> Predictions:
    """The class whose name, or whose k examples' mean, lies nearest to the text (cosine of embeddings)."""
    import numpy as np

    from attune.generate.labels import to_probabilities

    encode = context.encoder
    assert encode is not None
    start = time.perf_counter()
    texts = [[label.replace("_", " ")] for label in context.labels]
    note = "nearest label name (cosine of embeddings)"
    if examples:
        shuffled = list(context.labelled)
        random.Random(context.seed).shuffle(shuffled)
        few = 0
        for at, label in enumerate(context.labels):
            rows = [r.text for r in shuffled if label == r.label or (isinstance(r.label, tuple) and label in r.label)]
            # A class without examples keeps its name as its only example.
            texts[at] = rows[: context.few_shot] or texts[at]
            few += len(rows) < context.few_shot
        note = f"nearest mean of {context.few_shot} examples per class (cosine of embeddings)"
        note += f"; {few} classes have fewer" if few else ""
    vectors = _unit(np.asarray(encode([text for group in texts for text in group]), dtype=float))
    cuts = np.cumsum([len(group) for group in texts])[:-1]
    means = _unit(np.stack([group.mean(0) for group in np.split(vectors, cuts)]))
    trained = time.perf_counter()
    asked = _unit(np.asarray(encode([record.text for record in context.test]), dtype=float))
    chances = to_probabilities(SHARPNESS * asked @ means.T)
    outputs, extra = _decide(context, chances)
    return Predictions(
        name,
        outputs,
        scores=chances,
        labels=list(context.labels),
        seconds=time.perf_counter() - trained,
        trained_seconds=trained - start,
        note="; ".join(part for part in (note, extra) if part),
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
