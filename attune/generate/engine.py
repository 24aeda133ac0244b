"""In-process generation and scoring on any transformers causal model with a key-value cache."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from attune.errors import DataError, DivergedError, RecipeError, UsageError
from attune.generate.state import Prefilled, draw_numbers, penalised, sample

__all__ = ["Engine", "Generated", "parts_of"]

SCORED_LOGITS = 2**25
"""At most this many logits (scored positions x vocabulary) are held at once when sequences are scored."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One written answer: its tokens without the stop token, and how sure the model was of it."""

    ids: list[int]
    stopped: bool
    """It ended with a stop token, not at the length limit."""
    logp: float
    """Summed log-probability (nats, of the model itself, neither tempered nor penalised) of `ids` and of the stop token
    where there is one."""


class Engine:
    """A causal model ready to answer: plain or wrapped by PEFT, prompt-learning adapters included.

    The decoding loop is ours and not transformers' `generate` because the result may depend only on the arguments here
    (`generate` adds whatever sampling and penalties the base's generation_config holds), sampling must not depend on
    which prompts share a batch, and finished rows leave the batch at once.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        stop_ids: list[int],
        device: str | torch.device,
        batch_tokens: int = 4096,
        repetition_penalty: float = 1.0,
    ):
        """`repetition_penalty` above 1 makes tokens that stand in the prompt or the answer so far less likely.

        Source: Keskar et al. 2019 (arXiv:1909.05858), as in transformers' `generate`.
        """
        self.model, self.tokenizer = model, tokenizer
        self.stop_ids, self.device, self.batch_tokens = list(stop_ids), torch.device(device), batch_tokens
        self.repetition_penalty = repetition_penalty
        peft = getattr(model, "active_peft_config", None) if hasattr(model, "get_base_model") else None
        self._virtual = bool(peft and peft.is_prompt_learning)
        base = model.get_base_model() if peft else model
        self._network = base if self._virtual else model
        self._accepts = set(inspect.signature(base.forward).parameters)
        if "past_key_values" not in self._accepts:
            raise RecipeError(
                f"a {base.config.model_type} model cannot generate here",
                why="it keeps its state in another way than a key-value cache",
                fix="choose a base with attention layers (Llama, Qwen, Mistral, GPT-2, ...)",
            )
        config = base.config.get_text_config(decoder=True)
        self.vocab_size: int = config.vocab_size
        self.virtual_tokens: int = peft.num_virtual_tokens if peft and self._virtual else 0
        self.context_length: int | None = getattr(config, "max_position_embeddings", None)
        """Tokens that prompt, answer and virtual tokens may have together; None where the model sets no limit."""
        # Padding between a shared prefix and a row would shift what a sliding window sees and enter a linear layer's
        # state; a mask of our own would be ignored by both, and ALiBi counts cached positions.
        self.can_share_prefix = getattr(config, "sliding_window", None) is None and set(
            getattr(config, "layer_types", None) or ["full_attention"]
        ) <= {"full_attention"}
        self.can_branch = (
            self.can_share_prefix
            and "position_ids" in self._accepts
            and not getattr(config, "alibi", False)
            and getattr(base.config, "_attn_implementation", None) in ("sdpa", "eager")
        )
        """Several continuations of a prompt can stand in one row, kept apart by the attention mask."""

    # reading ----------------------------------------------------------------------------------------------------------

    def _forward(self, ids: torch.Tensor | None, **inputs: Any) -> Any:
        if ids is not None:
            inputs["input_ids"] = ids
        if "position_ids" not in self._accepts:
            inputs.pop("position_ids", None)
        keep = inputs.pop("keep", None)
        if keep is None or "logits_to_keep" in self._accepts:
            if keep is not None:
                inputs["logits_to_keep"] = keep
            return self._network(**inputs)
        output = self._network(**inputs)
        output.logits = output.logits[:, -keep:] if isinstance(keep, int) else output.logits[keep]
        return output

    def _start(self) -> Prefilled | None:
        """The virtual tokens of a prompt-learning adapter as a cached beginning of one row; None without them."""
        if not self._virtual:
            return None
        count = self.virtual_tokens
        prompt = self.model.get_prompt(batch_size=1)
        if isinstance(prompt, torch.Tensor):
            prompt = prompt.to(self.model.get_input_embeddings().weight.dtype)
            cache = self._forward(None, inputs_embeds=prompt, use_cache=True, keep=1).past_key_values
        else:
            cache = prompt
        ones = torch.ones(1, count, dtype=torch.long, device=self.device)
        return Prefilled(cache, ones, ones.sum(1), torch.zeros(1, 1, device=self.device))

    def extend(
        self, before: Prefilled | None, ids: torch.Tensor, mask: torch.Tensor, keep: Any
    ) -> tuple[Any, torch.Tensor, Any]:
        """Read more tokens in every row.

        Shapes: ids, mask [B, T] -> the model's logits at `keep`, the whole mask [B, P + T], the cache.
        """
        offset = before.length[:, None] if before else 0
        positions = (mask.cumsum(1) - 1).clamp(min=0) + offset
        whole = torch.cat([before.mask, mask], 1) if before else mask
        output = self._forward(
            ids,
            attention_mask=whole,
            position_ids=positions,
            past_key_values=before.cache if before else None,
            use_cache=True,
            keep=keep,
        )
        return output.logits, whole, output.past_key_values

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]], before: Prefilled | None = None) -> Prefilled:
        """Read prompts, left-padded to one batch; `before` is one row that all of them continue."""
        self.model.eval()
        ids, mask = self.pad(prompts, left=True)
        before = before or self._start()
        if before is not None:
            before = before.rows(torch.zeros(len(prompts), dtype=torch.long, device=self.device))
        logits, whole, cache = self.extend(before, ids, mask, keep=1)
        return Prefilled(cache, whole, whole.sum(1), self._finite(logits[:, -1].float()))

    @torch.inference_mode()
    def branch(self, state: Prefilled, tokens: list[int], parents: list[int]) -> torch.Tensor:
        """Logits after each node of a tree of tokens that grows from the end of every prompt.

        `parents[i]` is the node before node i (-1: the prompt); parents come before their children.

        Shapes: n nodes -> [B, n, V] in the model's own precision.
        """
        count, size = state.mask.shape[0], len(tokens)
        sees = torch.eye(size, dtype=torch.bool)
        depth = torch.zeros(size, dtype=torch.long)
        for node, parent in enumerate(parents):
            if parent >= 0:
                sees[node] |= sees[parent]
                depth[node] = depth[parent] + 1
        allowed = torch.cat(
            [state.mask.bool()[:, None].expand(-1, size, -1), sees.to(self.device).expand(count, -1, -1)], 2
        )
        dtype = self._network.get_input_embeddings().weight.dtype
        mask = torch.zeros(allowed.shape, dtype=dtype, device=self.device)
        mask = mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]
        return self._forward(
            torch.tensor(tokens, device=self.device).expand(count, -1),
            attention_mask=mask,
            position_ids=state.length[:, None] + depth.to(self.device),
            past_key_values=state.fork().cache,
            use_cache=True,
            keep=size,
        ).logits

    def pad(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows side by side. Shapes: -> ids and mask [B, T]; the mask is 0 at padding."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            at = slice(width - len(row), width) if left else slice(0, len(row))
            ids[index, at] = torch.tensor(row, dtype=torch.long)
            mask[index, at] = 1
        return ids.to(self.device), mask.to(self.device)

    def _finite(self, logits: torch.Tensor) -> torch.Tensor:
        # -inf is a token that the model rules out; only NaN and +inf are damage.
        if not bool((logits.amax(-1) < float("inf")).all()):
            raise DivergedError(
                "the model's scores are not finite",
                why="its weights hold NaN or overflow in this precision",
                fix="use an earlier checkpoint, or load it in float32",
            )
        return logits

    def batches(self, lengths: Sequence[int], extra: int = 0) -> Iterator[list[int]]:
        """Indices sorted by length, in groups whose padded size plus `extra` a row stays within `batch_tokens`."""
        group: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            if group and (len(group) + 1) * (lengths[index] + extra) > self.batch_tokens:
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    # writing ----------------------------------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        on_token: Callable[[int, int], None] | None = None,
    ) -> list[Generated]:
        """Answers in the order of the prompts; `on_token(index of the prompt, token)` is called as they are written.

        Temperature 0 takes the likeliest token. Sampling draws per prompt from (seed, its index), so that neither the
        batch size nor the other prompts change an answer.

        Raises: DataError for a prompt that is empty or leaves no room in the context.
        """
        limits = [self._room(prompt, index, max_new_tokens) for index, prompt in enumerate(prompts)]
        answers: list[Generated | None] = [None] * len(prompts)
        for group in self.batches([len(prompt) for prompt in prompts], max_new_tokens):
            ids: list[list[int]] = [[] for _ in group]
            logp, stopped = [0.0] * len(group), [False] * len(group)
            steps = self._decode(
                [prompts[i] for i in group],
                [limits[i] for i in group],
                temperature,
                top_p,
                [(seed, i) for i in group],
            )
            for row, token, score in steps:
                logp[row] += score
                if token in self.stop_ids:
                    stopped[row] = True
                else:
                    ids[row].append(token)
                if on_token is not None:
                    on_token(group[row], token)
            for row, index in enumerate(group):
                answers[index] = Generated(ids[row], stopped[row], logp[row])
        return answers  # type: ignore[return-value]

    def stream(
        self,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """The answer in pieces of text as it is written; a piece never ends inside a character."""
        limit = self._room(prompt_ids, 0, max_new_tokens)
        ids: list[int] = []
        # Text is decoded from `start`, a token already shown, because some tokenizers drop a leading space.
        start = shown = 0
        for _, token, _ in self._decode([prompt_ids], [limit], temperature, top_p, [(seed, 0)]):
            if token in self.stop_ids:
                break
            ids.append(token)
            before, now = self.text(ids[start:shown]), self.text(ids[start:])
            # A character has at most 4 bytes, so at most 4 tokens: more than that is no unfinished character.
            if now.endswith("\ufffd") and len(ids) - shown < 4:
                continue
            if len(now) > len(before):
                yield now[len(before) :]
                start, shown = shown, len(ids)
        rest = self.text(ids[start:])[len(self.text(ids[start:shown])) :]
        if rest:
            yield rest

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _room(self, prompt: Sequence[int], index: int, max_new_tokens: int) -> int:
        if not len(prompt):
            raise DataError(f"prompt {index + 1} is empty", why="a model needs at least one token to go on from")
        if self.context_length is None:
            return max_new_tokens
        room = self.context_length - self.virtual_tokens - len(prompt)
        if room < 1:
            raise DataError(
                f"prompt {index + 1} has {len(prompt)} tokens and leaves no room for an answer",
                why=f"the model's context is {self.context_length} tokens",
                fix="shorten the text, use fewer examples, or choose a base with a longer context",
            )
        return min(max_new_tokens, room)

    def _already(self, prompt: Sequence[int]) -> list[int]:
        """Tokens whose repetition is penalised from the start."""
        return list(prompt)

    @torch.inference_mode()
    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        limits: list[int],
        temperature: float,
        top_p: float,
        seeds: list[tuple[int, int]],
    ) -> Iterator[tuple[int, int, float]]:
        """(row, token, its log-probability) as they are written; a row ends with a stop token or at its limit."""
        if temperature < 0 or not 0 < top_p <= 1:
            raise UsageError(
                f"temperature {temperature} with top_p {top_p} cannot be sampled",
                fix="temperature >= 0 and 0 < top_p <= 1",
            )
        if max(limits) < 1:
            return
        draws = draw_numbers(seeds, max(limits)).to(self.device) if temperature else None
        seen = None
        if self.repetition_penalty != 1:
            seen = torch.zeros(len(prompts), self.vocab_size, dtype=torch.bool, device=self.device)
            for row, prompt in enumerate(prompts):
                seen[row, self._already(prompt)] = True
        state = self.prefill(prompts)
        alive = [row for row in range(len(prompts)) if limits[row] > 0]
        if len(alive) < len(prompts):
            state = state.rows(torch.tensor(alive, device=self.device))
        for step in range(max(limits)):
            logp = state.logits.log_softmax(-1)
            choice = logp if seen is None else penalised(state.logits, seen[alive], self.repetition_penalty)
            if draws is None:
                tokens = choice.argmax(-1)
            else:
                tokens = sample(choice / temperature, top_p, draws[alive, step])
            if seen is not None:
                seen[alive, tokens] = True
            scores = logp.gather(1, tokens[:, None])[:, 0].tolist()
            written = tokens.tolist()
            yield from zip(alive, written, scores)
            going = [at for at, row in enumerate(alive) if written[at] not in self.stop_ids and step + 1 < limits[row]]
            if not going:
                return
            if len(going) < len(alive):
                index = torch.tensor(going, device=self.device)
                state, tokens, alive = state.rows(index), tokens[index], [alive[at] for at in going]
            one = torch.ones(len(alive), 1, dtype=torch.long, device=self.device)
            logits, whole, cache = self.extend(state, tokens[:, None], one, keep=1)
            scores_next = self._finite(logits[:, -1].float())
            state = replace(state, cache=cache, mask=whole, length=state.length + 1, logits=scores_next)

    # scoring ----------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def logp(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> np.ndarray:
        """How likely the model finds each completion after its prompt.

        Shapes: N sequences -> [N, 2] summed log-probability (nats) and the number of tokens it covers. A completion
        without a prompt does not score its first token, which has nothing before it.

        Raises: DataError where prompt and completion exceed the context.
        """
        self.model.eval()
        result = np.zeros((len(sequences), 2))
        lengths = [len(prompt) + len(completion) for prompt, completion in sequences]
        limit = None if self.context_length is None else self.context_length - self.virtual_tokens
        for index, length in enumerate(lengths):
            if limit is not None and length > limit:
                raise DataError(
                    f"sequence {index + 1} has {length} tokens, {limit} fit",
                    why=f"the model's context is {self.context_length} tokens",
                    fix="shorten it, or choose a base with a longer context",
                )
        most = max(1, SCORED_LOGITS // self.vocab_size)
        start = self._start()
        for group in self.batches(lengths):
            for part in parts_of(group, [len(sequences[i][1]) for i in group], most):
                rows = [[*sequences[i][0], *sequences[i][1]] for i in part]
                if max(map(len, rows)) < 2:
                    continue
                ids, mask = self.pad(rows, left=False)
                keep = torch.zeros_like(mask, dtype=torch.bool)
                for row, i in enumerate(part):
                    keep[row, max(0, len(sequences[i][0]) - 1) : max(0, len(rows[row]) - 1)] = True
                if not bool(keep.any()):
                    continue
                before = start.rows(torch.zeros(len(part), dtype=torch.long, device=self.device)) if start else None
                if before is None:
                    logits = self._forward(
                        ids,
                        attention_mask=mask,
                        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                        use_cache=False,
                        keep=keep,
                    ).logits
                else:
                    logits, _, _ = self.extend(before, ids, mask, keep)
                logits = self._finite(logits.float())
                targets = ids.roll(-1, 1)[keep]
                scores = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(-1)
                owners = keep.nonzero()[:, 0]
                sums = torch.zeros(len(part), dtype=torch.float64, device=self.device)
                result[part, 0] = sums.index_add(0, owners, scores.double()).cpu().numpy()
                result[part, 1] = keep.sum(1).cpu().numpy()
        return result


def parts_of(group: list[int], sizes: list[int], most: int) -> Iterator[list[int]]:
    """The group cut so that the sizes of a part add up to `most`; a larger one stands alone."""
    part: list[int] = []
    total = 0
    for index, size in zip(group, sizes):
        if part and total + size > most:
            yield part
            part, total = [], 0
        part.append(index)
        total += size
    if part:
        yield part
