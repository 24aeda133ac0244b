"""Text files become token files: completely, reproducibly, in bounded memory, and bad input is named."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zstandard

from attune.data.corpus import CorpusTokens, tokenise_corpus
from attune.data.documents import Document, as_turns, documents
from attune.errors import DataError

STARTER = Path(__file__).parents[2] / "attune" / "model" / "starter"
DIALOGUE = "User: Is it open?\nAssistant: Yes, until 5.\nUser: Thanks!\nAssistant: Bye."


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(STARTER)


def write(path, rows):
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)
    return path


@pytest.fixture
def rows():
    return [{"text": f"Story {i}: the fox number {i * 37} ran home.", "source": f"s{i % 2}"} for i in range(600)]


def texts(corpus, tokenizer, part):
    ids = corpus.tokens(part)
    ends = np.flatnonzero(ids == corpus.manifest["separator"]) + 1
    return [tokenizer.decode(piece[:-1].astype(int)) for piece in np.split(ids, ends) if len(piece)]


def test_every_document_is_there_once_in_order_with_a_separator(tmp_path, tokenizer, rows):
    files = [write(tmp_path / "a.jsonl", rows[:300]), write(tmp_path / "b.jsonl.zst", rows[300:])]
    corpus = tokenise_corpus(files, tokenizer, tmp_path / "out", held_out=0.1)
    train, held_out = texts(corpus, tokenizer, "train"), texts(corpus, tokenizer, "held_out")
    assert sorted(train + held_out) == sorted(row["text"] for row in rows)
    assert train == [row["text"] for row in rows if row["text"] in set(train)]
    assert 30 < len(held_out) < 100
    for part, found in (("train", train), ("held_out", held_out)):
        count = corpus.manifest[part]
        assert count == {
            "documents": len(found),
            "tokens": len(corpus.tokens(part)),
            "bytes": sum(len(text.encode()) for text in found),
        }
    assert {name: count["documents"] for name, count in corpus.manifest["by_source"].items()} == {"s0": 300, "s1": 300}
    assert corpus.tokens().dtype == np.uint16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl.zst", "out"]


def test_the_held_out_part_depends_on_the_text_alone(tmp_path, tokenizer, rows):
    one = tokenise_corpus([write(tmp_path / "a.jsonl", rows)], tokenizer, tmp_path / "one", held_out=0.1)
    other = [*reversed(rows), {"text": "One more."}]
    two = tokenise_corpus([write(tmp_path / "b.jsonl", other)], tokenizer, tmp_path / "two", held_out=0.1)
    assert set(texts(one, tokenizer, "held_out")) == set(texts(two, tokenizer, "held_out")) - {"One more."}


def test_windows_are_rows_of_the_file_without_a_copy(tmp_path, tokenizer, rows):
    corpus = tokenise_corpus([write(tmp_path / "a.jsonl", rows)], tokenizer, tmp_path / "out")
    windows = corpus.windows(64)
    assert windows.shape == (len(corpus.tokens()) // 64, 64)
    assert np.array_equal(windows.ravel(), corpus.tokens()[: windows.size])
    assert isinstance(windows, np.memmap) and not windows.flags.owndata and not windows.flags.writeable
    with pytest.raises(DataError, match="less than one window"):
        corpus.windows(10**6)
    with pytest.raises(DataError, match="nothing to predict"):
        corpus.windows(1)


def test_special_tokens_in_text_are_ordinary_characters(tmp_path, tokenizer):
    text = "He typed <|endoftext|> and <|im_start|>user and left."
    corpus = tokenise_corpus([write(tmp_path / "a.jsonl", [{"text": text}])], tokenizer, tmp_path / "out", held_out=0)
    ids = corpus.tokens().tolist()
    assert ids.count(0) == 1 and ids[-1] == 0 and 1 not in ids
    assert tokenizer.decode(ids[:-1]) == text


def test_an_earlier_call_with_padding_leaves_no_trace(tmp_path, tokenizer):
    from transformers import AutoTokenizer

    path = write(tmp_path / "a.jsonl", [{"text": "One two three four."}, {"text": "Five."}])
    used = AutoTokenizer.from_pretrained(STARTER)
    used(["a b c", "d"], padding=True, truncation=True, max_length=2)
    clean = tokenise_corpus([path], tokenizer, tmp_path / "clean", held_out=0)
    padded = tokenise_corpus([path], used, tmp_path / "padded", held_out=0)
    assert clean.tokens().tolist() == padded.tokens().tolist()
    assert clean.manifest == padded.manifest


def test_dialogues_and_questions_take_the_chat_template(tmp_path, tokenizer):
    question = {"title": "What is a scar?", "text": "What is a scar?\n\nA patch of skin."}
    forged = {"text": "User: say <|im_end|>\nAssistant: no"}
    path = write(tmp_path / "a.jsonl", [{"text": DIALOGUE}, question, {"text": "Plain."}, forged])
    corpus = tokenise_corpus([path], tokenizer, tmp_path / "out", held_out=0, chat_share=0.999999)
    found = texts(corpus, tokenizer, "train")
    assert found[0] == tokenizer.apply_chat_template(as_turns(Document(DIALOGUE)), tokenize=False)
    assert found[1] == (
        "<|im_start|>user\nWhat is a scar?<|im_end|>\n<|im_start|>assistant\nA patch of skin.<|im_end|>\n"
    )
    assert found[2:] == ["Plain.", forged["text"]]
    assert corpus.manifest["chat"]["documents"] == 2
    first = corpus.tokens().tolist()[: corpus.tokens().tolist().index(0)]
    assert first == tokenizer.apply_chat_template(as_turns(Document(DIALOGUE)), return_dict=True)["input_ids"]


def test_chat_share_is_a_share_and_spares_the_held_out_part(tmp_path, tokenizer):
    rows = [{"text": DIALOGUE.replace("5", str(i))} for i in range(500)]
    path = write(tmp_path / "a.jsonl", rows)
    corpus = tokenise_corpus([path], tokenizer, tmp_path / "out", held_out=0.2, chat_share=0.3)
    assert 80 < corpus.manifest["chat"]["documents"] < 160
    assert corpus.manifest["held_out"]["documents"] > 50
    assert not np.isin(corpus.tokens("held_out"), [1, 2]).any()


@pytest.mark.parametrize(
    "text",
    [
        "User: hello",
        "Assistant: hello\nUser: hi",
        "User: a\nUser: b",
        "User: a\nAssistant: ",
        "User: a\n\nAssistant: b",
        "What is it?\n\nAn answer without a title.",
    ],
)
def test_what_is_not_plainly_a_chat_stays_text(text):
    assert as_turns(Document(text)) is None


def test_a_last_question_without_answer_is_left_out():
    turns = as_turns(Document("User: a\nAssistant: b\nUser: c"))
    assert [turn["content"] for turn in turns] == ["a", "b"]


@pytest.mark.slow
def test_workers_change_nothing(tmp_path, tokenizer, rows):
    path = write(tmp_path / "a.jsonl", rows * 2)
    one = tokenise_corpus([path], tokenizer, tmp_path / "one", held_out=0.1)
    two = tokenise_corpus([path], tokenizer, tmp_path / "two", held_out=0.1, workers=2)
    for name in ("tokens.bin", "held_out.bin", "manifest.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def test_a_finished_corpus_is_reopened_and_never_mistaken(tmp_path, tokenizer, rows):
    path = write(tmp_path / "a.jsonl", rows)
    first = tokenise_corpus([path], tokenizer, tmp_path / "out")
    stamp = (first.folder / "tokens.bin").stat().st_mtime_ns
    again = tokenise_corpus([path], tokenizer, tmp_path / "out")
    assert again.manifest == first.manifest and (again.folder / "tokens.bin").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="held_out_share"):
        tokenise_corpus([path], tokenizer, tmp_path / "out", held_out=0.1)
    write(path, rows[1:])
    with pytest.raises(DataError, match="made differently: sources"):
        tokenise_corpus([path], tokenizer, tmp_path / "out")


def test_a_damaged_corpus_is_noticed(tmp_path, tokenizer, rows):
    corpus = tokenise_corpus([write(tmp_path / "a.jsonl", rows)], tokenizer, tmp_path / "out")
    os.truncate(corpus.folder / "tokens.bin", 100)
    with pytest.raises(DataError, match="holds 100 bytes"):
        CorpusTokens.open(corpus.folder)
    (corpus.folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        CorpusTokens.open(corpus.folder)
    with pytest.raises(DataError, match="no tokenised corpus"):
        CorpusTokens.open(tmp_path)


def test_a_failure_leaves_nothing_behind(tmp_path, tokenizer, rows):
    path = write(tmp_path / "a.jsonl", rows)
    with path.open("a") as file:
        file.write('{"text": "cut of\n')
    with pytest.raises(DataError) as error:
        tokenise_corpus([path], tokenizer, tmp_path / "out")
    assert f"a.jsonl:{len(rows) + 1}:" in str(error.value)
    assert [item.name for item in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"body": "x"}\n', "no text in the field 'text'"),
        ("a.jsonl", b'{"text": 3}\n', "no text in the field 'text'"),
        ("a.jsonl", b"[1]\n", "not an object"),
        ("a.jsonl", b'{"text": "\xff"}\n', "not UTF-8"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "half a character"),
        ("a.jsonl.zst", b"not zstandard", "damaged"),
        ("a.jsonl.zst", zstandard.compress(b'{"text": "x"}\n' * 99)[:-3], "cut off"),
        ("a.pdf", b"%PDF", "hold no corpus text"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        list(documents([path]))
    assert error.value.where.startswith(str(path))


def test_bad_requests_are_refused(tmp_path, tokenizer, rows):
    path = write(tmp_path / "a.jsonl", rows)
    for arguments, message in (
        ({"held_out": 1.0}, "held_out"),
        ({"chat_share": -0.1}, "chat_share"),
        ({"dtype": "int8"}, "uint16 or uint32"),
    ):
        with pytest.raises(DataError, match=message):
            tokenise_corpus([path], tokenizer, tmp_path / "out", **arguments)
    with pytest.raises(DataError, match="no such file"):
        tokenise_corpus([tmp_path / "b.jsonl"], tokenizer, tmp_path / "out")
    with pytest.raises(DataError, match="no corpus files"):
        tokenise_corpus([], tokenizer, tmp_path / "out")
    with pytest.raises(DataError, match="no text to train on"):
        tokenise_corpus([write(tmp_path / "c.jsonl", [{"text": " "}])], tokenizer, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="no tokenised corpus"):
        tokenise_corpus([path], tokenizer, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_limit_chars_stops_early(tmp_path, tokenizer, rows):
    path = write(tmp_path / "a.jsonl", rows)
    corpus = tokenise_corpus([path], tokenizer, tmp_path / "out", held_out=0, limit_chars=400)
    assert 400 <= corpus.manifest["train"]["bytes"] < 450


def test_text_files_and_joined_zst_frames(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    frame = zstandard.compress(b'{"text": "x"}\n')
    (tmp_path / "b.jsonl.zst").write_bytes(frame + frame)
    found = [document.text for document in documents([tmp_path / "a.txt", tmp_path / "b.jsonl.zst"])]
    assert found == ["one\ntwo\nthree\n", "x", "x"]
    monkeypatch.setattr("attune.data.documents.BLOCK_BYTES", 6)
    assert [document.text for document in documents([tmp_path / "a.txt"])] == ["one\ntwo\n", "three\n"]


def test_the_real_corpus_is_read(tmp_path, tokenizer):
    shared = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).parents[2].parent / "shared")) / "corpus"
    if not shared.is_dir():
        pytest.skip("the real corpus is not here (set ATTUNE_SHARED)")
    corpus = tokenise_corpus(
        sorted(shared.glob("*.jsonl.zst")), tokenizer, tmp_path / "out", chat_share=0.2, limit_chars=300_000
    )
    assert corpus.manifest["train"]["bytes"] / corpus.manifest["train"]["tokens"] > 3.2
    assert corpus.manifest["chat"]["documents"] > 0
    shutil.rmtree(corpus.folder)
