"""One annotator at work: which text comes next and why, what was answered, how far it is, whether to stop."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from attune import plugins
from attune.data.label.advice import Advice, advise
from attune.data.label.decide import decide
from attune.data.label.features import Features
from attune.data.label.items import Texts, load_texts
from attune.data.label.learner import MOST_ROWS
from attune.data.label.ranking import Ranking, rank
from attune.data.label.shown import Item, Progress
from attune.data.label.spans import Remembered, checked
from attune.data.label.store import Row, Setup, Store
from attune.data.label.worker import Worker
from attune.errors import UsageError
from attune.plugins import nearest
from attune.records import Label, Span

__all__ = ["TASKS", "Item", "Progress", "Session"]

TASKS = ("classification", "multilabel", "tagging")
POOL = 20_000
"""Texts among which the next is chosen; of a larger file as many are drawn, and others when these are done."""
LIKELY = 3
ADVISE_EVERY = 50


class Session:
    """Asks texts one after the other. Every answer is on the disk when `answer` returns.

    `open` makes one from files. Not for several threads at once; several processes may share one labels file.
    """

    def __init__(
        self,
        texts: Texts,
        store: Store,
        annotator: str,
        *,
        strategy: str = "mixed",
        features: str = "tfidf",
        votes: int = 1,
        prelabels: bool = True,
        adjudicate: bool = False,
        background: bool = False,
        seed: int = 0,
    ):
        plugins.get("strategy", strategy)
        if not annotator.strip():
            raise UsageError("the annotator has no name", fix="--annotator NAME")
        assert store.setup is not None
        self.texts, self.store, self.annotator = texts, store, annotator.strip()
        self.strategy, self.features_kind, self.votes, self.seed = strategy, features, votes, seed
        self.prelabels, self.adjudicate, self.background = prelabels, adjudicate, background
        self.task = store.setup.task
        self.advice: Advice | None = None
        """The newest advice that was worked out in the background."""
        self._queue: deque[tuple[str, str]] = deque()
        self._current: Item | None = None
        self._shown = 0.0
        self._fitted = -1
        self._ranking = Ranking(None, [])
        self._fit_labels: tuple[str, ...] = ()
        self._remembered: Remembered | None = None
        self._worker: Worker | None = None
        self._advised = 0
        ids = list(texts.records)
        self._order = [ids[at] for at in np.random.default_rng(seed).permutation(len(ids))]
        self._make_pool()

    @classmethod
    def open(
        cls,
        data: str | Path,
        out: str | Path,
        annotator: str,
        *,
        labels: Sequence[str] = (),
        task: str | None = None,
        text: str | None = None,
        target: str | None = None,
        **options: Any,
    ) -> Session:
        """Begin, or go on where the labels file `out` ends.

        `labels` may be left out where `out` or the column `target` has some, and more can be added at any time.
        Raises: DataError, UsageError.
        """
        texts = load_texts(data, text=text, target=target)
        store = Store(out)
        before = store.setup
        if task is None:
            several = any(isinstance(label, tuple) for label in texts.known.values())
            task = before.task if before else "multilabel" if several else "classification"
        if task not in TASKS:
            raise UsageError(f"task is '{task}'{nearest(task, list(TASKS))}", fix=f"one of: {', '.join(TASKS)}")
        if before and before.task != task:
            raise UsageError(
                f"{out} was begun for {before.task}, and the task is {task}",
                fix="choose another --out, or leave out --task",
            )
        known = sorted({part for label in texts.known.values() for part in _parts(label)})
        wanted = [name.strip() for name in labels if name.strip()]
        names = dict.fromkeys([*(before.labels if before else ()), *wanted, *known])
        store.define(Setup(task, tuple(names)), annotator)
        return cls(texts, store, annotator, **options)

    @property
    def labels(self) -> tuple[str, ...]:
        assert self.store.setup is not None
        return self.store.setup.labels

    def add_label(self, name: str) -> None:
        """One label more; texts that were labelled before keep theirs."""
        name = name.strip()
        self.store.refresh()  # what others added since stays
        if not name or name in self.labels:
            raise UsageError(f"label '{name}' is there already" if name else "the label has no name")
        self.store.define(Setup(self.task, (*self.labels, name)), self.annotator)

    def next(self) -> Item | None:
        """The text to label now, the same until it is answered or skipped; None when all are done."""
        if self._current is not None and self._open(self._current.id):
            return self._current
        self._take_fit(wait=False)
        if self._due() and not self.adjudicate:
            self._start_fit()
        for attempt in range(3):
            while self._queue:
                key, why = self._queue.popleft()
                if self._open(key):
                    self._show(key, why)
                    return self._current
            if attempt == 0 and self._worker is not None:
                self._take_fit(wait=True)
            elif not self._refill():
                break
        self._current = None
        return None

    def answer(self, key: str, label: Label, *, accepted: bool = False, seconds: float | None = None, note="") -> Row:
        """Keep the label of a text; `accepted` says that it is the pre-label and was not chosen anew.

        Raises: UsageError if the label or the text is unknown; MachineError if it cannot be written.
        """
        label = self._checked(key, label)
        item = self._current if self._current is not None and self._current.id == key else None
        if seconds is None and item is not None:
            seconds = round(time.monotonic() - self._shown, 2)
        source: Any = "adjudicated" if self.adjudicate else "prelabel" if accepted else "human"
        guess = (item.prelabel, round(item.confidence, 4)) if item and item.confidence is not None else (None, None)
        return self.store.add(Row(key, self.annotator, label, "label", "", seconds, source, note, guess[0], guess[1]))

    def accept(self, key: str) -> Row:
        """Answer with the pre-label. Raises: UsageError if there is none."""
        if self._current is None or self._current.id != key or self._current.prelabel is None:
            raise UsageError("there is no pre-label to accept")
        return self.answer(key, self._current.prelabel, accepted=True)

    def skip(self, key: str, note: str = "") -> None:
        """Leave a text out: it is not asked again of this annotator."""
        if key not in self.texts.records:
            raise UsageError(f"there is no text with id {key!r}")
        self.store.add(Row(key, self.annotator, action="skip", note=note))

    def undo(self) -> Item | None:
        """Take back this annotator's last answer or skip; its text is shown again. None if there is nothing."""
        if self.store.last(self.annotator) is None:
            return None
        back = self.store.add(Row("", self.annotator, action="undo"))
        if self._current is not None:
            self._queue.appendleft((self._current.id, self._current.why))
            self._current = None
        if back.id in self.texts.records:
            self._queue.appendleft((back.id, "taken back"))
        return self.next()

    def progress(self) -> Progress:
        mine = [row for rows in self.store.labels.values() for row in rows.values() if row.annotator == self.annotator]
        guessed = [row for row in mine if row.prelabel is not None]
        times = [row.seconds for row in mine if row.seconds is not None]
        labelled = self._labelled()
        return Progress(
            texts=len(self.texts.records),
            labelled=len(set(self.store.labels) & set(self.texts.records) | set(self.texts.known)),
            mine=len(mine),
            skipped=len(self.store.skipped.get(self.annotator, ())),
            disputed=sum(decide(rows).label is None for rows in self.store.labels.values()),
            by_label=dict(Counter(part for label in labelled.values() for part in _parts(label))),
            proposed=len(guessed),
            right=sum(row.prelabel == row.label for row in guessed),
            seconds=median(times) if times else None,
        )

    def stop_advice(self, more: int = 50) -> Advice:
        """Whether more labels are worth it; takes some seconds."""
        if self.task == "tagging":
            return Advice(False, "no advice for spans: there is no quick model to measure")
        return self._advise(*self._training(), self.labels, more)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.join()
        self.store.close()

    # which text -------------------------------------------------------------------------------------------------------

    def _open(self, key: str) -> bool:
        rows = self.store.labels.get(key, {})
        if key in self.store.skipped.get(self.annotator, ()):
            return False
        if self.adjudicate:
            return bool(rows) and decide(rows).label is None
        return key not in self.texts.known and self.annotator not in rows and len(rows) < self.votes

    def _show(self, key: str, why: str) -> None:
        record = self.texts.records[key]
        self._shown = time.monotonic()
        if self.adjudicate:
            said = tuple((name, row.label) for name, row in sorted(self.store.labels[key].items()))
            self._current = Item(record, "annotators disagree", said=said)
            return
        if not self.prelabels:
            self._current = Item(record, "")
            return
        prelabel, confidence, likely = self._guess(key)
        self._current = Item(record, why, prelabel, confidence, likely)

    def _guess(self, key: str) -> tuple[Label, float | None, tuple[tuple[str, float], ...]]:
        if self.task == "tagging":
            spans, share = self._remembered.propose(self.texts.records[key].text) if self._remembered else ((), 0.0)
            spans = tuple(span for span in spans if span.label in self.labels)
            return (spans, share, ()) if spans else (None, None, ())
        if self._ranking.chances is None or key not in self._row:
            return None, None, ()
        chances, names = self._ranking.chances[self._row[key]], self._fit_labels
        order = np.argsort(-chances, kind="stable")
        likely = tuple((names[at], float(chances[at])) for at in order[:LIKELY])
        if self.task == "multilabel":
            chosen = tuple(name for name, chance in zip(names, chances) if chance > 0.5)
            return chosen, float(np.maximum(chances, 1 - chances).min()), likely
        return likely[0][0], likely[0][1], likely

    def _refill(self) -> bool:
        """Something to ask, if there is anything."""
        if self.adjudicate:
            self._queue.extend((key, "") for key in self.texts.records if self._open(key))
        else:
            if not any(self._open(key) for key in self.pool) and any(self._open(key) for key in self._order):
                self._make_pool()
            self._start_fit()
            self._take_fit(wait=True)
        return bool(self._queue)

    # the model --------------------------------------------------------------------------------------------------------

    def _make_pool(self) -> None:
        labelled = [key for key in self._order if key in self.store.labels or key in self.texts.known]
        inside = set(labelled[:MOST_ROWS])
        fresh = [key for key in self._order if key not in inside and self._open(key)][:POOL]
        self.pool = [*labelled[:MOST_ROWS], *fresh]
        self._row = {key: row for row, key in enumerate(self.pool)}
        self.features = Features([self.texts.records[key].text for key in self.pool], self.features_kind, self.seed)
        self._ranking, self._fitted = Ranking(None, []), -1

    def _labelled(self) -> dict[str, Label]:
        """Text -> the label that the model learns from; disputed ones are left out."""
        found = dict(self.texts.known)
        for key, rows in self.store.labels.items():
            label = decide(rows).label
            if label is not None and key in self.texts.records:
                found[key] = label
        return found

    def _training(self) -> tuple[np.ndarray, list[Any]]:
        """Rows of the pool and their labels, in the pool's order."""
        found = self._labelled()
        names = set(self.labels)
        pairs = [
            (row, found[key])
            for row, key in enumerate(self.pool)
            if key in found and names.issuperset(_parts(found[key]))
        ]
        return np.array([row for row, _ in pairs], dtype=np.int64), [label for _, label in pairs]

    def _batch(self) -> int:
        """Answers between two fits: a tenth of what there is."""
        return int(np.clip(len(self.store.labels) // 10, 5, 50))

    def _due(self) -> bool:
        return self._worker is None and abs(len(self.store.labels) - self._fitted) >= self._batch()

    def _start_fit(self) -> None:
        self.store.refresh()
        self._take_fit(wait=True)
        rows, targets = self._training()
        open_rows = np.array([row for row, key in enumerate(self.pool) if self._open(key)], dtype=np.int64)
        labels = self.labels
        labelled, self._fitted = len(self.store.labels), len(self.store.labels)
        advise_now = self.background and self.task != "tagging" and len(targets) >= self._advised + ADVISE_EVERY
        if advise_now:
            self._advised = len(targets)

        def work() -> tuple[tuple[str, ...], Ranking, Advice | None]:
            made = rank(
                self.features,
                rows,
                targets,
                labels,
                open_rows,
                strategy=self.strategy,
                n=self._batch_of(labelled),
                several=self.task == "multilabel",
                learns=self.task != "tagging",
                seed=self.seed,
            )
            return labels, made, self._advise(rows, targets, labels, ADVISE_EVERY) if advise_now else None

        if self.task == "tagging":
            records = [self.texts.records[self.pool[row]] for row in rows]
            self._remembered = Remembered(zip(records, targets))
        self._worker = Worker(work, background=self.background)

    def _batch_of(self, labelled: int) -> int:
        """While a fit runs in the background, the texts of the one before must last."""
        return int(np.clip(labelled // 10, 5, 50)) * (2 if self.background else 1)

    def _take_fit(self, *, wait: bool) -> None:
        if self._worker is None or not (wait or self._worker.done()):
            return
        self._fit_labels, self._ranking, advice = self._worker.result()
        self._worker, self.advice = None, advice or self.advice
        chosen = [(self.pool[choice.row], choice.why) for choice in self._ranking.choices]
        begun = [
            (key, f"labelled by {len(rows)} so far")
            for key, rows in self.store.labels.items()
            if self.votes > 1 and key in self.texts.records and self._open(key)
        ]
        back = [pair for pair in self._queue if pair[1] == "taken back"]
        self._queue = deque([*back, *begun, *chosen])

    def _advise(self, rows: np.ndarray, targets: list[Any], labels: tuple[str, ...], more: int) -> Advice:
        several = self.task == "multilabel"
        return advise(self.features.main[rows], targets, labels, more=more, several=several, seed=self.seed)

    def _checked(self, key: str, label: Label) -> Label:
        if key not in self.texts.records:
            raise UsageError(f"there is no text with id {key!r}")
        if self.task == "tagging":
            if not isinstance(label, tuple) or not all(isinstance(part, Span) for part in label):
                raise UsageError(f"{label!r} is not a tuple of spans")
            try:
                return checked(label, self.texts.records[key].text, self.labels)  # type: ignore[arg-type]
            except ValueError as error:
                raise UsageError(str(error)) from None
        fits = isinstance(label, tuple) if self.task == "multilabel" else isinstance(label, str)
        if not fits:
            raise UsageError(f"{label!r} is not a label of a {self.task} task")
        for name in _parts(label):
            if name not in self.labels:
                raise UsageError(
                    f"'{name}' is not one of the labels{nearest(str(name), list(self.labels))}",
                    fix=f"one of: {', '.join(self.labels)}",
                )
        if isinstance(label, tuple):
            return tuple(name for name in self.labels if name in label)
        return label


def _parts(label: Label) -> tuple[str, ...]:
    """The names in a label."""
    if isinstance(label, tuple):
        return tuple(part.label if isinstance(part, Span) else part for part in label)
    return (str(label),)
