"""The architectures attune is tested on: tiny random models, what was measured on each, and the page made from it.

Run `python tests/model/architectures.py` to write docs/architectures.md; tests/model/test_matrix.py checks every line.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attune import plugins
from attune.data.batch import Loader, collate
from attune.data.examples import Example, ExampleStore
from attune.errors import RecipeError
from attune.model.build import build
from attune.model.load import load_tokenizer
from attune.model.parallel import Parallel
from attune.model.policy import Policy
from attune.model.save import open_model, save_model
from attune.recipe import Recipe
from attune.train import checkpoint
from attune.train.loop import fit
from attune.train.optim import Masters

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"
VOCAB = 96
LABELS = ["a", "b", "c"]

_SMALL = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_BERT = {**_SMALL, "type_vocab_size": 1}

_T5: dict[str, Any] = dict(
    initializer_factor=0.2,  # else logits are large, and so are rounding errors
    vocab_size=VOCAB,
    d_model=32,
    d_kv=8,
    d_ff=48,
    num_layers=2,
    num_heads=4,
    pad_token_id=0,
    eos_token_id=2,
    decoder_start_token_id=0,
)
_BART: dict[str, Any] = dict(
    vocab_size=VOCAB,
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    decoder_start_token_id=2,
    forced_eos_token_id=None,
)

CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # shown as -> (configuration class, head, arguments)
    "Llama": ("LlamaConfig", "lm", _GROUPED),
    "Llama, tied": ("LlamaConfig", "lm", {**_GROUPED, "tie_word_embeddings": True}),
    "Llama, classifier": ("LlamaConfig", "sequence", {**_GROUPED, "pad_token_id": 3}),
    "Qwen3": ("Qwen3Config", "lm", {**_GROUPED, "head_dim": 8}),
    "Qwen3-MoE": (
        "Qwen3MoeConfig",
        "lm",
        {**_GROUPED, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "Gemma 2": ("Gemma2Config", "lm", {**_GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "Gemma 3": ("Gemma3TextConfig", "lm", {**_GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "Mistral": ("MistralConfig", "lm", {**_GROUPED, "sliding_window": 8}),
    "Phi-3": ("Phi3Config", "lm", _GROUPED),
    "GPT-2": (
        "GPT2Config",
        "lm",
        dict(
            vocab_size=VOCAB,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
    ),
    "GPT-NeoX": ("GPTNeoXConfig", "lm", _SMALL),
    "Granite": ("GraniteConfig", "lm", {**_GROUPED, "logits_scaling": 8.0, "residual_multiplier": 0.5}),
    "Cohere": ("CohereConfig", "lm", {**_GROUPED, "logit_scale": 0.25}),
    "GPT-OSS": (
        "GptOssConfig",
        "lm",
        {**_GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    ),
    "BERT, classifier": ("BertConfig", "sequence", _BERT),
    "BERT, tagger": ("BertConfig", "token", _BERT),
    "RoBERTa, classifier": ("RobertaConfig", "sequence", {**_BERT, "pad_token_id": 1, "bos_token_id": 0}),
    "ModernBERT, classifier": (
        "ModernBertConfig",
        "sequence",
        {**_SMALL, "global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "DeBERTa-v3, classifier": (
        "DebertaV2Config",
        "sequence",
        {
            **_BERT,
            "relative_attention": True,
            "position_buckets": 8,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
        },
    ),
    "T5": ("T5Config", "lm", _T5),
    "T5 1.1": ("T5Config", "lm", {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mT5": ("MT5Config", "lm", {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "BART": ("BartConfig", "lm", _BART),
    "Pegasus": ("PegasusConfig", "lm", {**_BART, "decoder_start_token_id": 0}),
    "T5Gemma": (
        "T5GemmaConfig",
        "lm",
        {
            "encoder": {**_GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
            "decoder": {**_GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
            "decoder_start_token_id": 1,
            "vocab_size": VOCAB,
        },
    ),
    "T5, classifier": ("T5Config", "sequence", _T5),
    "T5, tagger": ("T5Config", "token", _T5),
    "BART, classifier": ("BartConfig", "sequence", _BART),
    "BART, tagger": ("BartConfig", "token", _BART),
}

_HEAD_CLASSES = {
    "lm": "AutoModelForCausalLM",
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
}
_OBJECTIVES = {"lm": ("sft", "generation"), "sequence": ("classify", "classification"), "token": ("tag", "tagging")}


@dataclass
class Row:
    """What was measured on one architecture."""

    name: str
    head: str
    refused: str = ""
    difference: float = math.nan
    """Largest difference between the policy and the library's own forward."""
    packs: bool = False
    packed_difference: float = math.nan
    fast: bool = False
    notes: list[str] = field(default_factory=list)
    lora: bool = False
    full: bool = False
    resumes: bool = False
    saved_difference: dict[str, float] = field(default_factory=dict)
    """Largest difference after saving and opening with transformers or PEFT alone, by adapter."""


def save_base(name: str, folder: Path) -> Path:
    """A tiny random base with a word tokenizer, as a folder."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    kind, head, arguments = CONFIGS[name]
    config = getattr(transformers, kind)(**arguments)
    torch.manual_seed(0)
    auto = (
        "AutoModelForSeq2SeqLM"
        if config.is_encoder_decoder
        else "AutoModelForCausalLM"
        if head == "lm"
        else "AutoModel"
    )
    if "classifier" in name and kind == "LlamaConfig":
        auto = "AutoModelForCausalLM"
    model = getattr(transformers, auto).from_config(config)
    with torch.no_grad():  # larger than usual, so that differences show
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", "<unk>"])}
    vocabulary |= {f"w{number}": number for number in range(4, VOCAB)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    pad = ["<pad>", "<s>", "</s>", "<unk>"][getattr(config, "pad_token_id", 0) or 0]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=pad, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def is_pair(name: str) -> bool:
    """Whether it reads one text and writes another."""
    import transformers

    kind, head, arguments = CONFIGS[name]
    return head == "lm" and getattr(transformers, kind)(**arguments).is_encoder_decoder


def examples(head: str, n: int = 8, seed: int = 0, *, sources: bool = False) -> list[Example]:
    """Random sequences of 4 to 20 tokens; the first third of a text is an unscored prompt. They end as texts do.

    `sources`: for encoder-decoders, each with a source of its own length.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        length = int(rng.integers(4, 21))
        ids = rng.integers(4, VOCAB, length).astype(np.int32)
        ids[-1] = 2
        weight = np.zeros(length, dtype=np.float32)
        target: Any = None
        if head == "lm":
            weight[max(1, length // 3) :] = 1
        elif head == "sequence":
            weight[-1] = 1
            target = int(rng.integers(len(LABELS)))
        else:
            weight[1::2] = 1
            target = np.where(weight > 0, rng.integers(len(LABELS), size=length), -100).astype(np.int32)
        source = rng.integers(4, VOCAB, int(rng.integers(3, 15))).astype(np.int32) if sources else None
        rows.append(Example(ids=ids, weight=weight, target=target, record=number, source=source))
    return rows


def recipe_for(base: Path, head: str, adapter: dict[str, Any], **train: Any) -> Recipe:
    return Recipe.load(
        {
            "model": {"base": str(base), "dtype": "float32"},
            "data": {"path": "none.csv"},
            "objective": {"name": _OBJECTIVES[head][0]},
            "adapter": adapter,
            "train": {"learning_rate": 1e-2, "batch_size": 4, "warmup_steps": 0, "keep_checkpoints": 9, **train},
        }
    )


def objective_for(recipe: Recipe, head: str) -> Any:
    name, task = _OBJECTIVES[head]
    return plugins.get("objective", name)(recipe.objective.options, labels=[] if head == "lm" else LABELS, task=task)


def train(recipe: Recipe, head: str, folder: Path, resume: Any = None) -> tuple[Policy, Masters, list[dict[str, Any]]]:
    """Three steps through `fit`, a checkpoint after each."""
    objective = objective_for(recipe, head)
    tokenizer = load_tokenizer(recipe.model)
    policy = build(recipe, objective, tokenizer)
    layout = policy.settle()
    masters = Masters(policy, recipe.train, dtype=torch.float32)
    store = ExampleStore.of(examples(head, sources=policy.seq2seq), vocab_size=VOCAB)
    loader = Loader(store, seed=0, batch_size=4, layout=layout, pad_id=tokenizer.pad_token_id, scored=objective.scored)
    rows: list[dict[str, Any]] = []
    fit(
        policy, objective, loader, masters, recipe.train, total_steps=3, folder=folder, fingerprint="x",
        parallel=Parallel(), save_every=1, resume=resume, log=rows.append,
    )  # fmt: skip
    return policy.eval(), masters, rows


@torch.no_grad()
def library_forward(model: Any, head: str, rows: list[Example]) -> list[torch.Tensor]:
    """Each example alone through the plain model: log-probabilities of scored tokens, or outputs where scored."""
    found = []
    for row in rows:
        ids = torch.tensor(row.ids[None].astype(np.int64))
        if row.source is None:
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
        else:
            source = torch.tensor(row.source[None].astype(np.int64))
            logits = model(input_ids=source, decoder_input_ids=ids).logits.float()
        at = torch.tensor(np.flatnonzero(row.weight))
        if head == "lm":
            logp = logits[0].log_softmax(-1)
            found.append(logp[at - 1, ids[0, at]])
        else:
            found.append(logits if head == "sequence" else logits[0, at])
    return found


@torch.no_grad()
def policy_forward(policy: Policy, rows: list[Example], layout: str, pad_id: int) -> list[torch.Tensor]:
    """The policy's values for a whole batch, cut by example, in the order of `rows`."""
    batch = collate(
        rows, layout=layout, pad_id=pad_id, scored="next" if policy.head == "lm" else "here", index=range(len(rows))
    )
    scores = policy(batch)
    value = scores.logp if scores.logp is not None else scores.out
    parts = {int(batch.index[number]): value[batch.seq == number] for number in range(len(rows))}
    return [parts[number] for number in range(len(rows))]


def largest(left: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(left, right))


def measure(name: str, folder: Path) -> Row:
    """Everything the page says about one architecture."""
    import transformers

    head = CONFIGS[name][1]
    base = save_base(name, folder / "base")
    row = Row(name, head)
    pair = is_pair(name)
    rows = examples(head, sources=pair)
    auto = transformers.AutoModelForSeq2SeqLM if pair else getattr(transformers, _HEAD_CLASSES[head])
    for adapter in ({"type": "lora", "r": 4}, {"type": "full"}):
        kind = adapter["type"]
        recipe = recipe_for(base, head, adapter)
        objective = objective_for(recipe, head)
        try:
            tokenizer = load_tokenizer(recipe.model)
            policy = build(recipe, objective, tokenizer).eval()
        except RecipeError as error:
            row.refused = f"{error.what}: {error.why}"
            return row
        if kind == "full":
            policy.settle()
            row.fast, row.packs, row.notes = policy.fast, policy.packs, policy.notes
            plain = library_forward(policy.model, head, rows)
            row.difference = largest(plain, policy_forward(policy, rows, "padded", tokenizer.pad_token_id))
            if row.packs:
                row.packed_difference = largest(plain, policy_forward(policy, rows, "packed", 0))
        trained, masters, logged = train(recipe, head, folder / kind)
        fine = all(math.isfinite(entry["loss"]) and entry["grad_norm"] > 0 for entry in logged)
        setattr(row, kind, fine and logged[-1]["step"] == 3)
        whole = {key: value.clone() for key, value in masters.weights().items()}
        resumed = []
        for step in (1, 2):
            point = checkpoint.verify(folder / kind / f"step-{step:06d}")
            _, again, _ = train(recipe, head, folder / f"{kind}-{step}", resume=point)
            resumed.append(all(torch.equal(whole[key], value) for key, value in again.weights().items()))
        row.resumes = all(resumed) and (row.resumes or kind == "lora")
        target = folder / f"{kind}-model"
        save_model(target, recipe, objective, tokenizer, whole, stop_ids=[2], steps=[], card="---\n---\n")
        ours = library_forward(trained.model, head, rows)
        if json.loads((target / "manifest.json").read_text())["kind"] == "adapter":
            from peft import PeftModel

            loaded = PeftModel.from_pretrained(auto.from_pretrained(base, dtype=torch.float32), target).eval()
        else:
            loaded = auto.from_pretrained(target, dtype=torch.float32).eval()
        opened, _ = open_model(target, recipe)
        row.saved_difference[kind] = max(
            largest(ours, library_forward(loaded, head, rows)),
            largest(ours, library_forward(opened.eval(), head, rows)),
        )
    return row


def _reason(row: Row) -> str:
    """Why a slower way is taken, without figures that differ between machines."""
    return "; ".join(dict.fromkeys(re.sub(r" by \S*\d$|: \w+Error.*", "", note) for note in row.notes))


def page(rows: list[Row]) -> str:
    lines = [
        "# Architectures",
        "",
        "Made by `python tests/model/architectures.py` from tiny random models; do not edit. Each line was measured:",
        "the policy's values equal the library's own forward to 1e-5 in float32; packed rows equal padded ones, or",
        "packing is refused and the note says why; the fast head runs at scored positions only; LoRA and full",
        "fine-tuning take three steps; resuming from each checkpoint gives bit-identical weights; the saved folder,",
        "opened with transformers or PEFT alone, gives equal outputs. Sliding windows are shorter than the texts.",
        "",
        "| model | head | equal to the library | packed | fast head | LoRA | full | resume | saved and opened | note |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    said = {True: "yes", False: "no"}
    for row in rows:
        if row.refused:
            why = row.refused.split("' ", 1)[-1]
            lines.append(f"| {row.name} | {row.head} | - | - | - | - | - | - | - | refused: {why} |")
            continue
        flags = [
            row.difference <= 1e-5, row.packs and row.packed_difference <= 1e-5, row.fast, row.lora, row.full,
            row.resumes, max(row.saved_difference.values()) <= 1e-5,
        ]  # fmt: skip
        lines.append(f"| {row.name} | {row.head} | {' | '.join(said[flag] for flag in flags)} | {_reason(row)} |")
    return "\n".join(lines) + "\n"


def table(rows: list[Row]) -> str:
    """The figures themselves, for reports."""
    return "\n".join(
        f"{row.name:24} {row.head:9} refused: {row.refused[:70]}"
        if row.refused
        else f"{row.name:24} {row.head:9} |d|={row.difference:.1e} packed={row.packed_difference:.1e} "
        f"fast={row.fast!s:5} lora={row.lora} full={row.full} resume={row.resumes} "
        f"saved={ {key: float(f'{value:.0e}') for key, value in row.saved_difference.items()} } {row.notes}"
        for row in rows
    )


def main(names: list[str]) -> None:
    rows = []
    for name in names or CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, Path(folder)))
        print(table(rows[-1:]), flush=True)
    if not names:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
