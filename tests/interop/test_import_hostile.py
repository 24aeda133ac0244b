"""Files that mean harm, or are broken: clear errors with a place, nothing run, nothing that takes forever."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from attune.errors import AttuneError, RecipeError
from attune.interop.convert import convert
from attune.interop.shell import commands

HEAD = "base_model: m\nmicro_batch_size: 1\nlearning_rate: 1e-4\nsequence_len: 8\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
DEEP = "x: " + "[" * 400 + "]" * 400 + "\n"


@pytest.mark.parametrize(
    ("name", "text", "message", "place"),
    [
        ("bomb.yml", HEAD + BOMB, "too many values", ":"),
        ("deep.yml", HEAD + DEEP, "nested too deeply", ":"),
        ("self.yml", HEAD + "datasets: &d [*d]\n", "", ":"),
        ("tag.yml", HEAD + "x: !!python/object/apply:os.system ['touch pwned']\n", "is not allowed", ":5:4"),
        ("tab.yml", HEAD + "datasets:\n\t- path: a\n", "a tab where spaces must be", ":6:"),
        ("twice.yml", HEAD + "base_model: n\n", "given twice", ":5:1"),
        ("open.yml", HEAD + "datasets: [{path: a\n", "not YAML", ":"),
        ("list.yml", "- a\n- b\n", "a mapping of keys to values is needed", ":1:1"),
        ("empty.yml", "", "is empty", ""),
        ("binary.yml", "base_model: \0\n", "not text", ":1"),
        ("huge.yml", HEAD + "# " + "x" * (2 << 20), "larger than 1 MB", ""),
        ("merge.yml", HEAD + "<<: 3\n", "must name a mapping", ":5:5"),
        ("quote.sh", "swift sft --model 'open\n", "never closed", ":1"),
        ("command.sh", "X=$(cat /etc/passwd\nswift sft --model m\n", "never closed", ":1"),
        ("grow.sh", "A=xxxxxxxxxxxxxxxx\n" + "A=$A$A\n" * 40 + "swift sft --model $A\n", "grows without end", ":"),
        ("words.sh", "a\n" * 60_000, "too many words", ":"),
        ("wrong.py", "from unsloth import (\nx = \n", "not Python", ":"),
        ("deep.py", "x = " + "-" * 3000 + "1\n", "", ""),
        ("calls.py", "x = " + "f(" * 150 + ")" * 150 + "\n", "", ""),
        ("wrong.ipynb", '{"cells": [}', "not JSON", ":1"),
        ("cells.ipynb", '{"cells": 3}', "it has no cells", ""),
        ("cell.ipynb", json.dumps({"cells": [{"cell_type": "code", "source": ["x = 1\n", "y = = 2"]}]}),
         "not Python", "cell 1, line 2"),
        ("what.txt", "hello\n", "what kind of file", ""),
    ],
)  # fmt: skip
def test_hostile_and_broken_files(name: str, text: str, message: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(AttuneError) as error:
        convert(path)
    assert time.process_time() - began < 5
    assert message in str(error.value) and place in (error.value.where or "")
    assert not (tmp_path / "pwned").exists()


def test_not_utf8_and_no_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_bytes(b"base_model: m\nx: \xff\n")
    with pytest.raises(RecipeError) as error:
        convert(tmp_path / "a.yml")
    assert error.value.where == f"{tmp_path / 'a.yml'}:2"
    for path, message in ((tmp_path / "none.yml", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(RecipeError, match=message):
            convert(path)


@pytest.mark.parametrize(
    "line",
    [
        "swift sft --model $(touch {mark})",
        "swift sft --model `touch {mark}`",
        'swift sft --model "$(touch {mark})"; touch {mark}',
        "X=$(touch {mark}); swift sft --model $X",
        "eval 'touch {mark}'; swift sft --model m",
        "swift sft --model m --dataset 'a.jsonl; touch {mark}'",
        "swift sft --model m --learning_rate $(( $(touch {mark}) + 1 ))",
        "swift sft --model m --learning_rate $((__import__('os').system('touch {mark}')))",
        "trap 'touch {mark}' EXIT; swift sft --model m > {mark} 2>&1",
    ],
)
def test_nothing_of_a_script_is_run(line: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "go.sh"
    path.write_text(line.replace("{mark}", str(mark)) + "\n")
    convert(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').system('touch {mark}')",
        "SFTConfig(learning_rate=__import__('os').system('touch {mark}'))",
        "SFTConfig(max_steps=9 ** 9 ** 9 ** 9, output_dir='x' * 10 ** 12)",
        "class A:\n    def __init_subclass__(cls): open('{mark}', 'w')\nclass B(A): pass\n",
    ],
)
def test_nothing_of_python_is_run(code: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "go.py"
    head = "from unsloth import FastLanguageModel\nm, t = FastLanguageModel.from_pretrained('m')\n"
    path.write_text(head + code.replace("{mark}", str(mark)) + "\nSFTTrainer(model=m, args=SFTConfig(seed=1))\n")
    began = time.process_time()
    convert(path)
    assert not mark.exists() and time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 'b c' \"d  e\" f\\ g", ["a", "b c", "d  e", "f g"]),
        ("a # b\nc", ["a"]),
        ("a b#c", ["a", "b#c"]),
        ("X=1 Y='2 3'\na $X ${Y} \"$Y\" '$X' \\$X", ["a", "1", "2 3", "2 3", "$X", "$X"]),
        ("a ${NONE:-7} ${NONE}", ["a", "7", "${NONE}"]),
        ("N=4\na $((16 / N)) $((2*(N+1))) $(expr 16 / $N) $(expr 3 \\* 2)", ["a", "4", "10", "4", "6"]),
        ("a > out.txt 2>&1 b", ["a", "b"]),
        ("a \\\n  b", ["a", "b"]),
        ("if true; then a b; fi", ["true"]),
        ("cat <<EOF\na b\nEOF\nc", ["cat"]),
    ],
)
def test_the_shell_as_it_is_read(text: str, words: list[str]) -> None:
    assert commands(text, "x.sh")[0].texts == words


def test_places_of_words_across_continued_lines() -> None:
    found = commands("# one\nswift sft \\\n  --model m \\\n  --seed 3\n", "x.sh")[0]
    assert [word.where for word in found.words] == ["x.sh:2", "x.sh:2", "x.sh:3", "x.sh:3", "x.sh:4", "x.sh:4"]
