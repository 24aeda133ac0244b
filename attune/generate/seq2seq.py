"""Generation and scoring with an encoder-decoder: the source is read once, the answer is written after the decoder's
first tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attune.errors import DataError
from attune.generate.engine import SCORED_LOGITS, Engine, parts_of
from attune.generate.state import Prefilled

if TYPE_CHECKING:
    from attune.data.render import Renderer

__all__ = ["Seq2SeqEngine", "engine_of"]


def engine_of(model: Any, tokenizer: Any, renderer: Renderer, **options: Any) -> Engine:
    """The engine that fits a model; `options` as of `Engine`, stop tokens from the renderer unless given."""
    options = {"stop_ids": list(renderer.stop_ids), **options}
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not inner.config.is_encoder_decoder:
        return Engine(model, tokenizer, **options)
    return Seq2SeqEngine(model, tokenizer, decoder_prefix=renderer.decoder_prefix, **options)


@dataclass
class Reading(Prefilled):
    """Sources that the encoder has read, and the decoder's state after what was written.

    Shapes: hidden [B, T', H], source_mask [B, T']; `mask` and `length` count the decoder's tokens.
    """

    hidden: torch.Tensor
    source_mask: torch.Tensor

    def rows(self, index: torch.Tensor) -> Reading:
        chosen: Any = super().rows(index)
        return replace(chosen, hidden=self.hidden[index], source_mask=self.source_mask[index])


class Seq2SeqEngine(Engine):
    """A T5- or BART-like model ready to answer. A prompt is what the encoder reads; `decoder_prefix` is what every
    answer begins with (start token, and a forced begin-of-text token where the tokenizer has one).
    """

    def __init__(self, model: Any, tokenizer: Any, *, decoder_prefix: Sequence[int], **options: Any):
        super().__init__(model, tokenizer, **options)
        self.decoder_prefix = list(decoder_prefix)
        self._network = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.can_share_prefix = self.can_branch = False

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]], before: Prefilled | None = None) -> Prefilled:
        """Read sources; `before` has no meaning here."""
        self.model.eval()
        ids, mask = self.pad(prompts, left=False)
        hidden = self._encoded(ids, mask)
        start = torch.tensor([self.decoder_prefix], device=self.device).expand(len(prompts), -1)
        none = torch.zeros(len(prompts), 0, dtype=torch.long, device=self.device)
        state = Reading(None, none, none.sum(1), torch.empty(0), hidden, mask)
        logits, whole, cache = self.extend(state, start, torch.ones_like(start), keep=1)
        return replace(state, cache=cache, mask=whole, length=whole.sum(1), logits=self._finite(logits[:, -1].float()))

    def _encoded(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._network.get_encoder()(input_ids=ids, attention_mask=mask)[0]

    def _decoded(
        self, hidden: torch.Tensor, source_mask: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, **more: Any
    ):
        from transformers.modeling_outputs import BaseModelOutput

        return self._network(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=source_mask,
            decoder_input_ids=ids,
            decoder_attention_mask=mask,
            **more,
        )

    def extend(
        self, before: Prefilled | None, ids: torch.Tensor, mask: torch.Tensor, keep: Any
    ) -> tuple[Any, torch.Tensor, Any]:
        assert isinstance(before, Reading)
        whole = torch.cat([before.mask, mask], 1)
        output = self._decoded(
            before.hidden, before.source_mask, ids, whole, past_key_values=before.cache, use_cache=True
        )
        logits = output.logits[:, -keep:] if isinstance(keep, int) else output.logits[keep]
        return logits, whole, output.past_key_values

    def _room(self, prompt: Sequence[int], index: int, max_new_tokens: int) -> int:
        """Source and answer have the context each for itself."""
        if not len(prompt):
            raise DataError(f"prompt {index + 1} is empty", why="the encoder needs at least one token to read")
        if self.context_length is None:
            return max_new_tokens
        if len(prompt) > self.context_length:
            raise DataError(
                f"prompt {index + 1} has {len(prompt)} tokens",
                why=f"the model's encoder reads {self.context_length} tokens",
                fix="shorten the text, use fewer examples, or choose a base with a longer context",
            )
        return min(max_new_tokens, self.context_length - len(self.decoder_prefix))

    def _already(self, prompt: Sequence[int]) -> list[int]:
        """Only what the decoder wrote counts as a repetition, as in transformers' `generate`."""
        return self.decoder_prefix

    @torch.inference_mode()
    def logp(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> np.ndarray:
        self.model.eval()
        result = np.zeros((len(sequences), 2))
        first = len(self.decoder_prefix)
        for index, (source, answer) in enumerate(sequences):
            longest = max(len(source), first + len(answer))
            if self.context_length is not None and longest > self.context_length:
                raise DataError(
                    f"sequence {index + 1} has {longest} tokens, {self.context_length} fit",
                    why=f"the model's context is {self.context_length} tokens",
                    fix="shorten it, or choose a base with a longer context",
                )
        most = max(1, SCORED_LOGITS // self.vocab_size)
        lengths = [len(source) + len(answer) for source, answer in sequences]
        for group in self.batches(lengths):
            widest = max(first + len(sequences[i][1]) for i in group)
            for part in parts_of(group, [widest] * len(group), most):
                ids, mask = self.pad([sequences[i][0] for i in part], left=False)
                rows, real = self.pad([[*self.decoder_prefix, *sequences[i][1]] for i in part], left=False)
                hidden = self._encoded(ids, mask)
                logits = self._finite(self._decoded(hidden, mask, rows, real, use_cache=False).logits[:, :-1].float())
                targets, scored = rows[:, 1:], real[:, 1:].bool()
                scored[:, : first - 1] = False
                each = logits.gather(2, targets[..., None])[..., 0] - logits.logsumexp(-1)
                result[part, 0] = (each.double() * scored).sum(1).cpu().numpy()
                result[part, 1] = scored.sum(1).cpu().numpy()
        return result
