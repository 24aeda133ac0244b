"""Word list, the user's own list, and a real (tiny, untrained but biased) classifier."""

import time
from pathlib import Path
from typing import Any

import pytest

from attune.data.desk import Desk
from attune.data.filters.toxicity import Toxicity
from attune.data.steps import Context
from attune.errors import RecipeError
from attune.records import Message, Record


def row(name: str, text: str) -> Record:
    return Record(name, (Message("user", text),), label="a")


def step(**options: Any) -> Toxicity:
    return Toxicity(Toxicity.Config(**options), Context())


def drops(one: Toxicity, text: str) -> bool:
    return one.apply(row("1", text), 0) is not None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("You are an IDIOT.", True),
        ("shut up!", True),
        ("I’ll hurt you", True),
        ("Please cancel my card.", False),
        ("The idiotproof guide", False),
        ("Shutter upgrade", False),
        ("", False),
    ],
)
def test_built_in_words(text: str, found: bool) -> None:
    assert drops(step(), text) is found


def test_counts_and_reason() -> None:
    one = step(max_matches=1)
    assert not drops(one, "you moron")
    change = one.apply(row("2", "you moron, you absolute moron, shut up"), 0)
    assert change is not None
    assert change.entries[0]["reason"] == "3 abusive words or phrases: moron, shut up"
    assert one.facts()["by_rule"] == {"words": 1} and one.facts()["rows"] == 2


def test_own_list(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# ours\nDummkopf\n\n  halt  die klappe\na.c\n", encoding="utf-8")
    one = step(words=False, words_file=str(path))
    assert drops(one, "Du dummkopf!") and drops(one, "Halt die Klappe") and drops(one, "a.c")
    assert not drops(one, "abc") and not drops(one, "you idiot") and not drops(one, "# ours")
    with pytest.raises(RecipeError, match="cannot read the word list"):
        step(words_file=str(tmp_path / "none.txt"))
    with pytest.raises(RecipeError, match="neither words nor a classifier"):
        step(words=False)


def test_linear() -> None:
    one = step()
    for text in ("i will kill yo" * 8_000, "shut " * 20_000, "x" * 100_000):
        start = time.process_time()
        drops(one, text)
        assert time.process_time() - start < 0.5


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one layer whose classes are set by hand: `bad` in a text makes it toxic."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("classifier")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bad", "good"]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=7,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=64,
        num_labels=2,
        id2label={0: "neutral", 1: "toxic"},
        label2id={"neutral": 0, "toxic": 1},
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    ids = torch.tensor([[2, 5, 3], [2, 6, 3]])
    for _ in range(60):
        loss = model(input_ids=ids, labels=torch.tensor([1, 0])).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return folder


def test_classifier(tmp_path: Path, classifier: Path) -> None:
    rows = [row("1", "good"), row("2", "bad"), row("3", "good"), row("4", "bad you idiot")]
    desk = Desk([step(classifier=str(classifier))], tmp_path)
    assert [one.id for one in desk.run({"train": rows})["train"]] == ["1", "3"]
    assert desk.facts[0]["by_rule"] == {"classifier": 1, "words": 1}
    neutral = step(classifier=str(classifier), words=False, toxic_labels=("neutral",))
    neutral.learn(rows)
    assert sorted(neutral.scores) == [0, 2]


def test_classifier_that_cannot_be_used(tmp_path: Path, classifier: Path) -> None:
    with pytest.raises(RecipeError, match="holds no model"):
        step(classifier=str(tmp_path)).learn([row("1", "x")])
    with pytest.raises(RecipeError, match="no class 'toxc'; did you mean 'toxic'"):
        step(classifier=str(classifier), toxic_labels=("toxc",)).learn([row("1", "x")])
