"""The model as training sees it: a Batch in, scores at its scored positions out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attune.data.batch import Batch, collate
from attune.data.examples import Example
from attune.errors import RecipeError
from attune.model import attention
from attune.model.adapters.base import Adapter
from attune.model.adapters.full import Full
from attune.model.fused import chunked, logp_at, mean_logp, token_logp, top_logp
from attune.model.neftune import noisy

__all__ = ["Policy", "Scores"]


@dataclass
class Scores:
    """What the policy says at the scored positions of a batch."""

    logp: Tensor = None  # type: ignore[assignment]  # absent for label heads
    """[M] log-probability of the target token, in nats."""
    mean_logp: Tensor | None = None
    """[M] mean of the log-probabilities of all tokens, where it is asked for (label smoothing)."""
    out: Tensor = None  # type: ignore[assignment]  # absent for language models
    """[M, C] outputs of a classification, tagging or regression head."""
    topk: dict[str, Tensor] = field(default_factory=dict)
    """name -> [M, K + 1] log-probabilities of the tokens that a batch asks for in `tokens["<name>_ids"]` [M, K], and
    (last) of all other tokens together; at the temperature `tokens["<name>_temperature"]` [M]."""


class Policy(nn.Module):
    """A transformers model (plain or PEFT-wrapped) that scores batches in every layout.

    Two paths give the same numbers: the library's own forward with all logits, and a fast one that runs the trunk and
    applies the head only at scored positions, in chunks. `settle` proves the fast path on this very model and falls
    back to the library's where it differs (soft-capped or scaled logits, unusual heads); it also proves that packed
    sequences do not see each other, else packing is refused.

    Virtual tokens of a prompt-learning adapter stand before every row; `Batch` does not know of them, and their
    columns are dropped before anything is scored.
    """

    def __init__(self, model: nn.Module, *, head: str, adapter: Adapter | None = None):
        super().__init__()
        self.model: Any = model
        self.head = head
        self.adapter = adapter or Full()
        peft = getattr(model, "active_peft_config", None) if hasattr(model, "get_base_model") else None
        self.virtual_tokens: int = peft.num_virtual_tokens if peft is not None and peft.is_prompt_learning else 0
        self.fast = False
        self.packs = False
        self.notes: list[str] = []
        self.noise_alpha = 0.0
        """Strength of NEFTune's noise in training mode; 0 is none."""
        self.noise_key = (0, 0)
        """(seed, step) the noise is drawn from; the loop sets it before each step."""

    # what the model is made of ---------------------------------------------------------------------------------------

    @property
    def inner(self) -> Any:
        """The transformers model itself; adapters live inside its layers."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def config(self) -> Any:
        return self.inner.config

    @property
    def seq2seq(self) -> bool:
        """Whether it reads with an encoder and writes with a decoder (not where it classifies)."""
        return self.head == "lm" and bool(self.config.is_encoder_decoder)

    @property
    def trunk(self) -> nn.Module:
        """The model without its head."""
        return getattr(self.inner, self.inner.base_model_prefix)

    def _output_head(self) -> nn.Module | None:
        if self.head == "lm":
            return self.inner.get_output_embeddings()
        if self.head == "sequence":
            return getattr(self.inner, "score", None)
        return None

    # scoring ---------------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch, *, smooth: bool = False) -> Scores:
        """Shapes: see `Batch` and `Scores`. `smooth` asks a language model for `Scores.mean_logp`."""
        if self.training and self.noise_alpha:
            with noisy(self.inner.get_input_embeddings(), batch, self.noise_alpha, self.noise_key):
                return self._score(batch, smooth)
        return self._score(batch, smooth)

    def _score(self, batch: Batch, smooth: bool) -> Scores:
        if self.head == "lm":
            asked = _asked(batch)
            rows = [tensor for _, ids, temperature in asked for tensor in (ids, temperature)]

            def score(logits: Tensor, target: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
                pairs = zip(rows[::2], rows[1::2])
                means = [mean_logp(logits)] if smooth else []
                return token_logp(logits, target), *(logp_at(logits, ids, warmth) for ids, warmth in pairs), *means

            logp, *more = self.over_logits(score, batch, batch.target, *rows)
            topk = {name: values for (name, _, _), values in zip(asked, more)}
            return Scores(logp=logp, mean_logp=more[-1] if smooth else None, topk=topk)
        if self.fast:
            head = self._output_head()
            assert head is not None
            return Scores(out=_wide(head(self._hidden(batch))))
        logits = self._logits(batch)
        if self.head == "token":  # a sequence is pooled by the model itself, one row each
            logits = logits.flatten(0, 1).index_select(0, batch.src)
        return Scores(out=_wide(logits))

    def over_logits(self, score: Callable[..., tuple[Tensor, ...]], batch: Batch, *rows: Tensor) -> tuple[Tensor, ...]:
        """`score(logits, *rows)` at the scored positions of a language model, in chunks where the fast path allows it.

        Shapes: logits [M, V]; `rows` and results [M, ...].
        """
        if self.fast:
            head = self._output_head()
            assert head is not None
            return chunked(score, head, self._hidden(batch), *rows)
        logits = self._logits(batch).flatten(0, 1)
        if batch.segments is None:  # of a packed row the library itself keeps the scored positions only
            logits = logits.index_select(0, batch.src)
        return score(logits, *rows)

    @torch.no_grad()
    def top(self, batch: Batch, k: int, temperature: float = 1.0, vocab: int | None = None) -> tuple[Tensor, Tensor]:
        """The k likeliest tokens at every scored position; their log-probabilities and (last) that of all others.

        `vocab`: only the first so many tokens count. Shapes: [M, K] and [M, K + 1].
        """
        ids, logp = self.over_logits(lambda logits: top_logp(logits, k, temperature, vocab), batch)
        return ids, logp

    def _hidden(self, batch: Batch) -> Tensor:
        """[M, H] what the trunk says at the scored positions."""
        if self.seq2seq:
            return self._decoder_hidden(batch)
        inputs = self._with_virtual_tokens(batch) if self.virtual_tokens else self._inputs(batch)
        with attention.packed_forward() if batch.segments is not None else nullcontext():
            hidden = self.trunk(**inputs)[0]
        return self._real_columns(hidden, batch).flatten(0, 1).index_select(0, batch.src)

    def _decoder_hidden(self, batch: Batch) -> Tensor:
        """The same for an encoder-decoder, caught where it enters the head: T5 scales it on the way there. The head
        itself then sees one position only."""
        head, caught = self._output_head(), []
        assert head is not None

        def catch(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            caught.append(args[0])
            return (args[0][:, :1].detach(),)

        handle = head.register_forward_pre_hook(catch)
        try:
            self.model(**self._inputs(batch))
        finally:
            handle.remove()
        (hidden,) = caught
        return hidden.flatten(0, 1).index_select(0, batch.src)

    def _logits(self, batch: Batch) -> Tensor:
        """The library's own forward."""
        with attention.packed_forward() if batch.segments is not None else nullcontext():
            logits = self.model(**self._inputs(batch)).logits
        return logits if self.head == "sequence" else self._real_columns(logits, batch)

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        if batch.source is not None:
            return {
                "input_ids": batch.source.input_ids,
                "attention_mask": batch.source.mask,
                "decoder_input_ids": batch.input_ids,
                "decoder_attention_mask": batch.mask,
                "use_cache": False,
            }
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.mask}
        if self.head == "lm" or self.fast:
            inputs["use_cache"] = False  # a cache would also hide restarting positions from the library's own masks
        if batch.segments is not None:
            inputs |= {"position_ids": batch.position_ids, "segments": batch.segments}
            if not self.fast:
                inputs["logits_to_keep"] = batch.src
        return inputs

    def _with_virtual_tokens(self, batch: Batch) -> dict[str, Any]:
        """What the trunk reads where PEFT would put virtual tokens before each row: their vectors, or cached keys."""
        rows = len(batch.input_ids)
        assert batch.mask is not None
        mask = torch.cat([batch.mask.new_ones(rows, self.virtual_tokens), batch.mask], 1)
        prompt = self.model.get_prompt(batch_size=rows)
        if not isinstance(prompt, Tensor):
            return {"input_ids": batch.input_ids, "attention_mask": mask, "past_key_values": prompt, "use_cache": False}
        words = self.model.word_embeddings(batch.input_ids)
        return {
            "inputs_embeds": torch.cat([prompt.to(words.dtype), words], 1),
            "attention_mask": mask,
            "use_cache": False,
        }

    def _real_columns(self, values: Tensor, batch: Batch) -> Tensor:
        """Shapes: [B, V + T, ...] (V = 0 where virtual tokens are keys in a cache) -> [B, T, ...]."""
        return values[:, values.shape[1] - batch.input_ids.shape[1] :] if self.virtual_tokens else values

    # proofs at load --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def settle(self, *, layout: str = "auto", vocab: int | None = None) -> str:
        """Choose the fastest path and layout that are provably right on this model; returns `packed` or `padded`.

        Every choice that falls back says why in `notes`.
        """
        was_training = self.training
        self.eval()
        vocab = vocab or self.config.get_text_config().vocab_size
        try:
            self.fast = False
            self._use_attention("sdpa")
            probe = self._probe(vocab)
            # The library pools a sequence at its last token that is not the pad token.
            pad_id = getattr(self.config.get_text_config(), "pad_token_id", None) or 0
            padded = collate(probe, layout="padded", scored=self._scored, pad_id=pad_id)
            # Behind virtual tokens the library pools a padded row in its padding; a row alone has none.
            rows = [[row] for row in probe] if self.virtual_tokens else [probe]
            plain = [collate(part, layout="padded", scored=self._scored, pad_id=pad_id) for part in rows]
            reference = torch.cat([self._value(part) for part in plain])
            bias = getattr(self.inner, "final_logits_bias", None)
            if bias is not None and bias.any():
                self.notes.append("fast path not used: the model adds a bias after its head")
            elif (head := self._output_head()) is not None:
                with _amplified(head):
                    loud = torch.cat([self._value(part) for part in plain])
                    self.fast = self._agrees("fast path", loud, padded, fast=True)
            if self.virtual_tokens:
                layout = "padded"
                if not self.fast and not self._agrees(
                    "padded rows behind virtual tokens", reference, padded, fast=False
                ):
                    raise RecipeError(
                        f"a {self.config.model_type} model cannot pool padded rows behind virtual tokens",
                        why="its own head takes the last column, which is padding",
                        fix="adapter.type=prefix or lora",
                    )
            self.packs = False
            if self.config.is_encoder_decoder:
                self.notes.append("padded layout: in an encoder-decoder every answer looks at its own source")
            elif layout != "padded" and not self.fast and self.head != "lm":
                self.notes.append(f"padded layout: {self.config.model_type} cannot apply this head inside a packed row")
            elif layout != "padded" and self._use_attention(attention.NAME):
                packed = collate(probe, layout="packed", scored=self._scored)
                order = packed.seq.new_tensor(sorted(range(len(probe)), key=lambda number: -len(probe[number].ids)))
                self.packs = self._agrees(
                    "packed layout", _by_sequence(reference, probe, order.tolist()), packed, fast=self.fast
                )
                self.packs = self.packs and self._isolated(probe)
                if not self.packs:
                    self._use_attention("sdpa")
            if not self.packs:
                self._prefer_eager(reference, padded)
        finally:
            self.train(was_training)
        return "packed" if self.packs else "padded"

    def _prefer_eager(self, reference: Tensor, padded: Batch) -> None:
        """On a CPU, padded rows of at most a thousand tokens train about 1.4 times as fast with explicit products as
        with SDPA, whose bfloat16 backward is slow there (docs/LOG.md)."""
        longest = getattr(self.config.get_text_config(), "max_position_embeddings", None) or 0
        on_cpu = next(self.parameters()).device.type == "cpu"
        if on_cpu and 0 < longest <= 1024 and self._use_attention("eager"):
            if not self._agrees("eager attention", reference, padded, fast=self.fast):
                self.inner.set_attn_implementation("sdpa")

    @property
    def _scored(self) -> str:
        return "next" if self.head == "lm" else "here"

    def _probe(self, vocab: int) -> list[Example]:
        import numpy as np

        rng = np.random.default_rng(0)
        rows = []
        for length in (7, 12, 5):
            ids = rng.integers(5, max(6, min(vocab, 2000)), length).astype(np.int32)
            ids[ids == getattr(self.config.get_text_config(), "pad_token_id", None)] = 4
            if self.config.is_encoder_decoder and self.head == "sequence":  # pooled at its one end-of-sequence token
                ids[ids == self.config.eos_token_id] = 4
                ids[-1] = self.config.eos_token_id
            weight = np.zeros(length, dtype=np.float32)
            weight[-1:] = 1
            if self.head != "sequence":
                weight[1:] = 1
            target = None if self.head == "lm" else np.zeros(length, dtype=np.int64)
            source = np.roll(ids, 3)[: length - 2] if self.seq2seq else None
            rows.append(Example(ids=ids, weight=weight, target=target, record=0, source=source))
        return rows

    def _value(self, batch: Batch) -> Tensor:
        scores = self(batch.to(next(self.parameters()).device))
        value = scores.logp if scores.logp is not None else scores.out
        assert value is not None
        return value.float()

    def _agrees(self, what: str, reference: Tensor, batch: Batch, *, fast: bool) -> bool:
        before = self.fast
        self.fast = fast
        try:
            difference = float((self._value(batch) - reference).abs().max())
        except (AttributeError, TypeError, ValueError, KeyError, IndexError, RuntimeError, AssertionError) as error:
            self.fast = before
            self.notes.append(f"{what} not used: {type(error).__name__}: {str(error)[:160]}")
            return False
        coarse = next(self.parameters()).dtype in (torch.bfloat16, torch.float16)
        limit = 0.15 if coarse else 1e-4 * max(1.0, float(reference.abs().max()))
        if not difference <= limit:
            self.fast = before
            self.notes.append(f"{what} not used: it differs from the library's forward by {difference:.2g}")
            return False
        return True

    def _isolated(self, probe: list[Example]) -> bool:
        """Change one packed sequence: the others' outputs may not move at all."""
        import numpy as np

        first = collate(probe, layout="packed", scored=self._scored)
        other = copy.deepcopy(probe)
        longest = max(range(len(other)), key=lambda number: len(other[number].ids))
        other[longest].ids[:] = np.roll(other[longest].ids, 1)
        second = collate(other, layout="packed", scored=self._scored)
        rest = (first.seq != 0).to(next(self.parameters()).device)  # the longest comes first
        moved = float((self._value(first) - self._value(second)).abs()[rest].max())
        if moved > 1e-5:
            self.notes.append(f"packing refused: a sequence saw its neighbour (outputs moved by {moved:.2g})")
            return False
        return True

    def _use_attention(self, name: str) -> bool:
        if name == attention.NAME:
            attention.register()
        if getattr(self.config, "_attn_implementation", None) in ("sdpa", attention.NAME):
            self.inner.set_attn_implementation(name)
            return True
        if name == attention.NAME:
            self.notes.append(f"packing refused: attention is {self.config._attn_implementation}")
        return False


def _asked(batch: Batch) -> list[tuple[str, Tensor, Tensor]]:
    """(name, token ids [M, K], temperature [M]) of every set of tokens whose log-probabilities a batch asks for."""
    names = sorted(key.removesuffix("_ids") for key in batch.tokens if key.endswith("_ids"))
    ones = torch.ones_like(batch.weight)
    return [(name, batch.tokens[f"{name}_ids"], batch.tokens.get(f"{name}_temperature", ones)) for name in names]


@contextmanager
def _amplified(head: nn.Module) -> Iterator[None]:
    """While it is open, the head answers a hundred times as loud: a soft cap bends only large outputs, which an
    untrained model does not have yet."""
    handle = head.register_forward_hook(lambda module, args, out: out * 100)
    try:
        yield
    finally:
        handle.remove()


def _wide(out: Tensor) -> Tensor:
    """Class scores in at least float32, where a softmax is safe."""
    return out if out.dtype == torch.float64 else out.float()


def _by_sequence(value: Tensor, probe: list[Example], order: list[int]) -> Tensor:
    """Rows of a padded probe's value, sequences reordered."""
    sizes = [int((row.weight > 0).sum()) for row in probe]
    parts = value.split(sizes)
    return torch.cat([parts[number] for number in order])
