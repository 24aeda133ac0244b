"""Unsloth: notebooks and scripts, read by their calls."""

from __future__ import annotations

from attune.interop import trainer_script, trl, values
from attune.interop.base import Draft, Importer, Rule, dropped
from attune.interop.common import SPEED, TRAINER, adapter_defaults, trainer_defaults
from attune.interop.datasets import Sets
from attune.interop.document import Document, Given, Source

__all__ = ["Unsloth"]

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _seed(draft: Draft, given: Given) -> None:
    if draft.one("seed") is not None or "seed" in draft.values:
        draft.drop(given, "the seed of the training is the seed of everything here")
    else:
        draft.map(given, "seed", values.whole(given))


class Unsloth(Importer):
    """Unsloth's notebooks and scripts: the calls that load, adapt and train, by their syntax tree."""

    name = "unsloth"
    title = "Unsloth"
    table = {
        **trl.Trl.table,
        "max_seq_length": Rule("data.max_length", "longer examples are cut on the right; 2048 where nothing is said"),
        "use_gradient_checkpointing": TRAINER["gradient_checkpointing"],
        "random_state": Rule("seed", "where the training names none", _seed),
        "full_finetuning": Rule("adapter.type", "on: full"),
        "embedding_learning_rate": dropped("one learning rate for all trained weights"),
        "token": dropped("attune takes HF_TOKEN from the environment"),
        "layers_to_transform": dropped("every layer that target_modules names gets an update"),
        **{key: dropped(SPEED) for key in ("fast_inference", "max_lora_rank", "gpu_memory_utilization", "use_exact_*",
                                           "float8_kv_cache", "unsloth_tiled_mlp", "offload_embedding", "device_map")},
        **{f"finetune_{part}": dropped("every layer that target_modules names gets an update") for part in
           ("vision_layers", "language_layers", "attention_modules", "mlp_modules")},
    }  # fmt: skip

    def sources(self, document: Document) -> list[Source]:
        found = trainer_script.sources(document, unsloth=True)
        for source in found:
            source.score += 3
        return found

    def convert(self, draft: Draft, source: Source) -> None:
        trainer_script.objects(draft)
        if "data.path" not in draft.values:
            Sets(draft).finish()
        full = draft.one("full_finetuning")
        lora = source.facts["lora"] and not values.on(draft, "full_finetuning")
        if full is not None:
            draft.map(full, "adapter.type", "lora" if lora else "full")
        draft.values.setdefault("adapter.type", "lora" if lora else "full")
        lengths = ("max_seq_length", "max_length")
        values.batch(
            draft, ("per_device_train_batch_size",), "gradient_accumulation_steps", ("packing",), lengths,
            usual=(4, 2, 2048),
        )  # fmt: skip
        trl.length(draft, lengths, 2048)
        values.dtype(draft)
        stage = source.facts["stage"]
        if stage == "sft":
            how = "answers alone are scored" + (", as train_on_responses_only does" if source.facts["answers_only"] else
                                                "; this script scores prompts too")  # fmt: skip
            draft.default("objective.name", "auto", f"{how}; plain text is learned whole")
        else:
            trl.preference(draft, stage, source)
        draft.finish(self.table)
        draft.default("data.truncate", "right", "Unsloth cuts longer examples")
        if lora:
            adapter_defaults(draft, "lora", r=16, alpha=16.0, dropout=0.0, targets=SEVEN)
        trainer_defaults(draft, rate=5e-5, train__weight_decay=0.01, seed=3407)
