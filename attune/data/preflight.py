"""Look at what will be trained on before anything is trained: errors that block, facts, and samples to read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.data.examples import Example, ExampleStore
from attune.data.render import Renderer
from attune.errors import DataError
from attune.records import Record

if TYPE_CHECKING:
    from attune.objectives.base import Objective

__all__ = ["Preflight", "preflight"]

_ANSWERING = ("sft", "distill")
"""Objectives whose examples are a prompt and an answer that has to stop."""
_INSTRUCT = re.compile(r"instruct|chat|(^|[-_])it($|[-_])|assistant", re.IGNORECASE)
_CONTROL = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421, 0x9B: 0x241B}
"""Control characters of the data -> visible ones: a sample cannot command the terminal that shows it."""


@dataclass
class Preflight:
    """What was found: facts to print and store, notices to read, and the samples."""

    facts: dict[str, Any]
    notices: list[str] = field(default_factory=list)
    store: ExampleStore | None = None
    renderer: Renderer | None = None
    labels: Sequence[str] = ()
    """Names of the classes, where an example's target is the number of one."""

    def preview(self, n: int = 3, *, markup: bool = False) -> str:
        """n examples as text, supervised parts as `⟦...⟧`, or as rich markup for a terminal."""
        if self.store is None or self.renderer is None or not len(self.store):
            return ""
        chosen = np.unique(np.linspace(0, len(self.store) - 1, num=min(n, len(self.store))).astype(int))
        return "\n".join(
            _sample(self.store[int(number)], int(number), self.renderer, markup, self.labels) for number in chosen
        )


def _sample(example: Example, number: int, renderer: Renderer, markup: bool, labels: Sequence[str] = ()) -> str:
    decode = renderer.encoder.backend.decode
    source = [] if example.source is None else example.source.tolist()
    ids = source + example.ids.tolist()
    scored = np.concatenate([np.zeros(len(source), dtype=bool), example.weight > 0])
    cuts = [0, *(np.flatnonzero(np.diff(scored.astype(np.int8))) + 1).tolist(), len(ids)]
    text = ""
    shown = [len(decode(ids[:cut], skip_special_tokens=False)) for cut in cuts]
    whole = decode(ids, skip_special_tokens=False)
    for start, left, right in zip(cuts[:-1], shown[:-1], shown[1:], strict=True):
        part = whole[left:right].translate(_CONTROL)
        if markup:
            from rich.markup import escape

            part = escape(part)
        if scored[start]:
            part = f"[bold green]{part}[/bold green]" if markup else f"⟦{part}⟧"
        text += part
    head = f"--- example {number}: {len(ids)} tokens, {int(scored.sum())} supervised"
    if example.target is not None and np.ndim(example.target) == 0:
        named = np.issubdtype(np.asarray(example.target).dtype, np.integer) and int(example.target) < len(labels)
        head += f", label {labels[int(example.target)]}" if named else f", target {example.target}"
    return f"{head} ---\n{text}\n"


def _first(mask: np.ndarray, store: ExampleStore, records: Sequence[Record]) -> str | None:
    """`file:line` of the first example where the mask is true."""
    number = int(store.records[int(np.argmax(mask))])
    return (records[number].where or records[number].id) if 0 <= number < len(records) else None


def _per_example(store: ExampleStore) -> tuple[np.ndarray, np.ndarray]:
    """(scored tokens, index of the last scored token or -1) of each example."""
    scored = np.asarray(store.weights) > 0
    before = np.concatenate([[0], np.cumsum(scored)])
    counts = before[store.offsets[1:]] - before[store.offsets[:-1]]
    positions = np.flatnonzero(scored)
    last = np.full(len(store), -1)
    some = counts > 0
    last[some] = positions[before[store.offsets[1:]][some] - 1]
    return counts, last


def preflight(
    examples: ExampleStore | Iterable[Example] | Mapping[str, ExampleStore],
    renderer: Renderer,
    records: Sequence[Record],
    *,
    objective: str | Objective,
    vocab_size: int | None = None,
    truncation_limit: float = 0.2,
) -> Preflight:
    """Check examples before training; facts and samples if all is well.

    `examples`: of the training split, or stores by split with `train` among them. `records`: what `Example.record`
    indexes. `vocab_size`: rows of the model's embedding. `truncation_limit`: largest share of examples that may be cut
    or dropped.
    Raises: DataError with every problem found: nothing supervised, a stop token that is not supervised, a doubled BOS,
    a system role that the template rejects or drops, too much truncation, empty answers, ids outside the vocabulary.
    """
    vocab_size = vocab_size or max(renderer.encoder.vocab_size, len(renderer.tokenizer))
    if isinstance(examples, Mapping):
        stores = dict(examples)
    elif isinstance(examples, ExampleStore):
        stores = {"train": examples}
    else:
        stores = {"train": ExampleStore.of(examples, vocab_size=vocab_size)}
    store = stores["train"]
    renderer.truncation.check()

    name, head = (objective, "lm") if isinstance(objective, str) else (objective.name, objective.head)
    answering = name in _ANSWERING and head == "lm"
    problems = _empty(store, records, answering)
    problems += _cut(renderer, truncation_limit)
    if len(store):
        problems += _vocabulary(store, records, vocab_size)
        problems += _doubled_bos(store, renderer, records)
    if answering:
        problems += _stops(store, renderer, records) if len(store) else []
        problems += _system(renderer, records)
    if problems:
        first, *others = problems
        first.why = "; ".join(filter(None, [first.why, *(f"also: {other.what}" for other in others)])) or None
        raise DataError(first.what, where=first.where, why=first.why, fix=first.fix)
    labels = () if isinstance(objective, str) else tuple(objective.labels)
    return Preflight(_facts(stores, renderer, answering), _notices(renderer, answering), store, renderer, labels)


def _empty(store: ExampleStore, records: Sequence[Record], answering: bool) -> list[DataError]:
    if not len(store):
        return [DataError("there is nothing to train on", why="no example is left after rendering")]
    found = []
    counts, _ = _per_example(store)
    if not counts.any():
        what = "no token is supervised"
        return [DataError(what, why="training would change nothing", fix="check the roles and weights of the messages")]
    if (counts == 0).any():
        what = f"{int((counts == 0).sum())} examples have no supervised token"
        found.append(DataError(what, where=_first(counts == 0, store, records), fix="drop these rows"))
    blank = [
        record
        for record in records
        if record.completions
        and not any(message.content.strip() or message.tool_calls for message in record.completions[0].messages)
    ]
    if answering and blank:
        what = f"{len(blank)} records have an empty answer"
        why = "the model would learn to say nothing"
        found.append(DataError(what, where=blank[0].where or blank[0].id, why=why, fix="drop these rows"))
    return found


def _cut(renderer: Renderer, limit: float) -> list[DataError]:
    report = renderer.truncation
    share = report.over / len(report.lengths) if report.lengths else 0.0
    if report.policy == "window" or share <= limit:
        return []
    longest = report.percentiles()["max"]
    what = f"{report.over} of {len(report.lengths)} examples do not fit in data.max_length {report.max_length}"
    why = f"{report.supervised_lost} supervised tokens are lost; data.max_truncated allows {limit:.3g} of the examples"
    return [DataError(what, where=report.first[0][0], why=why, fix=f"data.max_length: {longest} keeps all")]


def _vocabulary(store: ExampleStore, records: Sequence[Record], vocab_size: int) -> list[DataError]:
    bad = np.asarray(store.ids) >= vocab_size
    if not bad.any():
        return []
    of_example = np.searchsorted(store.offsets, np.flatnonzero(bad)[:1], side="right") - 1
    mask = np.arange(len(store)) == of_example[0]
    what = f"token id {int(store.ids[int(np.argmax(bad))])} is outside the model's vocabulary of {vocab_size}"
    why = "the tokenizer does not belong to the model, or tokens were added without resizing it"
    return [DataError(what, where=_first(mask, store, records), why=why, fix="use the base model's own tokenizer")]


def _doubled_bos(store: ExampleStore, renderer: Renderer, records: Sequence[Record]) -> list[DataError]:
    bos = renderer.tokenizer.bos_token_id
    lengths = np.diff(store.offsets)
    starts = store.offsets[:-1][lengths >= 2]
    if bos is None or not len(starts):
        return []
    doubled = np.zeros(len(store), dtype=bool)
    doubled[lengths >= 2] = (store.ids[starts] == bos) & (store.ids[starts + 1] == bos)
    # An empty document between BOS and EOS, where both are one token, is not a doubled BOS.
    if bos == renderer.tokenizer.eos_token_id:
        doubled &= lengths > 2
    if not doubled.any():
        return []
    what = f"{int(doubled.sum())} examples begin with two {renderer.tokenizer.bos_token} tokens"
    why = "both the chat template and the tokenizer write it"
    return [DataError(what, where=_first(doubled, store, records), why=why, fix="remove it from the template")]


def _stops(store: ExampleStore, renderer: Renderer, records: Sequence[Record]) -> list[DataError]:
    stops = set(renderer.encoder.special_ids if renderer.stop_id is None else ()) | set(renderer.stop_ids)
    counts, last = _per_example(store)
    some = counts > 0
    open_ended = some.copy()
    open_ended[some] = ~np.isin(np.asarray(store.ids[last[some]]), sorted(stops))
    if int(open_ended.sum()) <= renderer.truncation.stops_lost:
        return []
    stop = renderer.tokenizer.convert_ids_to_tokens(renderer.stop_ids[0]) if renderer.stop_ids else None
    why = "a model that never sees its stop token as a target never stops"
    if stop is not None and renderer.tokenizer.pad_token_id in renderer.stop_ids:
        why += f"; the padding token is the stop token ({stop}), so padding was masked together with it"
    fix = (
        f"supervise {stop} at the end of each answer"
        if stop
        else "give the tokenizer an eos_token, or a template with a stop"
    )
    what = f"the stop token is not supervised in {int(open_ended.sum())} of {len(store)} examples"
    return [DataError(what, where=_first(open_ended, store, records), why=why, fix=fix)]


def _system(renderer: Renderer, records: Sequence[Record]) -> list[DataError]:
    using = [record for record in records if any(m.role in ("system", "developer") for m in record.prompt)]
    if not using:
        return []
    state = renderer.template.system_role
    if state == "kept":
        return []
    does = "rejects" if state == "rejected" else "silently drops"
    what = f"the {renderer.template.name} {does} the system message of {len(using)} records"
    fix = "move the system text to the start of the first user turn, or choose another template"
    return [DataError(what, where=using[0].where or using[0].id, fix=fix)]


def _facts(stores: Mapping[str, ExampleStore], renderer: Renderer, answering: bool) -> dict[str, Any]:
    tokenizer = renderer.tokenizer
    splits = {}
    for split, store in stores.items():
        at = np.percentile(store.lengths, [50, 95, 99, 100], method="higher").tolist() if len(store) else [0] * 4
        supervised = int(np.count_nonzero(store.weights))
        tokens = int(store.lengths.sum())
        splits[split] = {
            "examples": len(store),
            "tokens": tokens,
            "supervised_tokens": supervised,
            "supervised_share": round(supervised / max(1, tokens), 4),
            "length_tokens": dict(zip(("p50", "p95", "p99", "max"), map(int, at), strict=True)),
        }
    facts: dict[str, Any] = {"splits": splits, "truncation": renderer.truncation.to_dict()}
    if answering:
        facts["template"] = renderer.template.name
        facts["stop_tokens"] = tokenizer.convert_ids_to_tokens(list(renderer.stop_ids))
        facts["pad_is_stop"] = tokenizer.pad_token_id in renderer.stop_ids
        facts["generation_markers"] = renderer.template.has_generation_markers
    return facts


def _notices(renderer: Renderer, answering: bool) -> list[str]:
    notices: list[str] = []
    if not answering:
        return notices
    name = str(renderer.tokenizer.name_or_path)
    if not renderer.has_own_template and renderer.template.name == "plain" and _INSTRUCT.search(name):
        notices.append(f"{name} looks tuned for chat but has no chat template: `plain` is used")
    if renderer.stop_id is None:
        notices.append(f"the template writes no stop token: {renderer.tokenizer.eos_token} is appended to each answer")
    if renderer.template.uses_clock:
        notices.append("the template writes today's date: prompts change from day to day")
    if renderer.tokenizer.pad_token_id in renderer.stop_ids:
        notices.append("the padding token is also the stop token: the stop stays supervised, padding does not")
    return notices
