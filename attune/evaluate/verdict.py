"""Did it learn anything? One word, one sentence, and the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from attune.evaluate.stats import Interval, Paired

__all__ = ["Verdict", "verdict"]

Word = Literal["better", "no difference", "worse", "learned nothing"]

STOP_RATE = 0.95
"""Share of answers that must end by themselves before a model may ship."""
INVALID_RATE = 0.02
"""Share of unusable answers above which a model may not ship."""


class Verdict(NamedTuple):
    """`ship`: better than every baseline, and nothing else speaks against it."""

    word: Word
    sentence: str
    evidence: list[str]
    ship: bool


def verdict(
    metric: str,
    tuned: Interval,
    versus: Mapping[str, Paired],
    *,
    higher_is_better: bool = True,
    floor: str | None = "majority",
    curves: Sequence[str] = (),
    supervised_tokens: int | None = None,
    stop_rate: float | None = None,
    invalid_rate: float | None = None,
    alpha: float = 0.05,
) -> Verdict:
    """Judge a tuned model on the primary metric.

    `versus` holds, for every baseline, the tuned model minus that baseline; `floor` names the one that has learned
    nothing; `curves` is what the course of the training says (`curves.course`). A difference counts when p < alpha and
    its interval leaves out zero. The best baseline is picked on the same rows, which favours the baseline, not the
    model.

    - learned nothing: no token was supervised, or the model is not better than the floor;
    - worse / better: than the best baseline; no difference: all else, also when there is nothing to compare with.
    """
    sign = 1 if higher_is_better else -1
    known = {name: pair for name, pair in versus.items() if not math.isnan(pair.difference)}
    best = min(known, key=lambda name: sign * known[name].difference, default=None)
    evidence = [f"{metric} {_number(tuned.value)} (95 % interval {_range(tuned)}, {tuned.n} rows)"]
    for name, pair in known.items():
        evidence.append(f"tuned minus {name}: {_signed(pair.difference)} ({_range(pair)}), p {_p(pair.p)}")
    if (
        best
        and supervised_tokens != 0
        and known[best].low < known[best].high
        and not _direction(known[best], sign, alpha)
    ):
        size = _number(known[best].detectable())
        evidence.append(f"{tuned.n} rows show a difference of {size} in 4 of 5 cases, smaller ones less often")
    evidence += curves

    word: Word
    if supervised_tokens == 0:
        word, sentence = "learned nothing", "No token was supervised, so training had nothing to learn from."
    elif floor in known and _direction(known[floor], sign, alpha) <= 0:
        word, sentence = "learned nothing", f"It is not better than {floor}, which looks at no input."
    elif best is None:
        word, sentence = "no difference", "There is no baseline to compare with, so nothing shows that it is better."
    else:
        pair = known[best]
        size = f"{_signed(pair.difference)} {metric}, 95 % interval {_range(pair)}, p {_p(pair.p)}"
        direction = _direction(pair, sign, alpha)
        if direction > 0:
            word, sentence = "better", f"Better than the best baseline, {best}: {size}."
        elif direction < 0:
            word, sentence = "worse", f"Worse than {best}: {size}."
        else:
            word, sentence = "no difference", f"Not told apart from {best}: {size}."

    against = []
    if stop_rate is not None and stop_rate < STOP_RATE:
        share, needed = _percent(stop_rate), _percent(STOP_RATE)
        against.append(f"only {share} of the answers end by themselves (at least {needed} to ship)")
    if invalid_rate is not None and invalid_rate > INVALID_RATE:
        share, allowed = _percent(invalid_rate), _percent(INVALID_RATE)
        against.append(f"{share} of the answers are unusable (at most {allowed} to ship)")
    if supervised_tokens:
        evidence.append(f"{supervised_tokens:,} supervised tokens")
    if word == "better" and against:
        sentence += f" Do not ship it yet: {'; '.join(against)}."
    return Verdict(word, sentence, evidence + against, word == "better" and not against)


def _direction(pair: Paired, sign: int, alpha: float) -> int:
    """1 better, -1 worse, 0 not told apart."""
    if not pair.p < alpha or pair.low <= 0 <= pair.high:
        return 0
    return 1 if sign * pair.difference > 0 else -1


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _range(pair: Interval | Paired) -> str:
    return f"{_number(pair.low)} to {_number(pair.high)}".replace("-", "\N{MINUS SIGN}")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
