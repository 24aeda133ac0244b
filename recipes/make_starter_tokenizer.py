"""Train the tokenizer of the bundled starter base: byte-level BPE, 8192 entries, digits split singly.

    python recipes/make_starter_tokenizer.py CORPUS_FOLDER [--out attune/model/starter]

CORPUS_FOLDER holds `*.jsonl.zst` files of `{"text", "source"}` lines. The same files give the same tokenizer: the
sample is chosen by a hash of each text. About ten seconds on one core.

The pre-tokenizer (single digits, then GPT-2's byte-level split) is the one that llama.cpp knows as `smollm`, so the
starter and whatever is tuned from it can be exported to GGUF.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

VOCABULARY = 8192
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>", *(f"<|reserved_{i}|>" for i in range(12))]
SHARE = {
    "wikipedia": 0.09,
    "books_children": 0.2,
    "books_clic": 0.25,
    "books_100novels": 0.25,
    "medquad": 0.15,
    "dialogues_sgd": 0.15,
    "openstax": 0.5,
    "speeches": 0.5,
}
"""Part of each source that is read; sources that are not named are read whole. The large ones are thinned so that
simple language, dialogue and textbooks have a say in which words become one token."""


def sample(folder: Path) -> Iterator[str]:
    """The texts the tokenizer is trained on: about 37 MB."""
    import zstandard

    for path in sorted(folder.glob("*.jsonl.zst")):
        with path.open("rb") as raw:
            for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(raw), encoding="utf-8"):
                row = json.loads(line)
                draw = int.from_bytes(hashlib.sha256(row["text"].encode()).digest()[16:24], "big") / 2**64
                if draw < SHARE.get(row["source"], 1.0):
                    yield row["text"]


def train(folder: Path, out: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json into `out`; its chat_template.jinja is kept."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        sample(folder),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            min_frequency=2,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
    fast.chat_template = (out / "chat_template.jinja").read_text(encoding="utf-8")
    fast.save_pretrained(out)
    # The names that transformers 4 and 5 both read: 4 knows neither `TokenizersBackend` nor a list of extra tokens.
    config = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": SPECIAL[1:3]}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("attune/model/starter"))
    arguments = parser.parse_args()
    train(arguments.corpus, arguments.out)
