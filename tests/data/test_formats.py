"""Every format reads its shape, knows its own rows, and refuses what is not its shape with a reason."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune import plugins
from attune.data.formats.base import Bad, Drop, Format, Mapping
from attune.data.rows import Where
from attune.data.tags import offsets_of, spans_of
from attune.records import Completion, Message, Record, Span

HERE = Where("file.jsonl", 7)
USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
FORMATS = plugins.find("format")

ROWS: dict[str, dict] = {
    "alpaca": {"instruction": "Add.", "input": "1 2", "output": "3"},
    "chat": {"messages": [USER, ASSISTANT]},
    "conll": {"conll": [["Ann", "B-PER"], ["left", "O"]]},
    "kto": {"prompt": "hi", "completion": "hello", "label": True},
    "labelled": {"text": "I lost my card", "label": "lost_card"},
    "openai_preference": {
        "input": {"messages": [USER]},
        "preferred_output": [ASSISTANT],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
    },
    "pairs": {"source": ["One.", "Two."], "target": ["1, 2.", "One and two."]},
    "persona": {"question": "Would you?", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"},
    "preference": {"prompt": "hi", "chosen": "hello", "rejected": "go away"},
    "prompt_completion": {"prompt": "hi", "completion": "hello"},
    "record": {"id": "a", "prompt": [USER], "completions": [{"messages": [ASSISTANT]}], "where": "x:1"},
    "sgd_dialogues": {
        "dialogue_id": "1",
        "turns": [{"speaker": "USER", "utterance": "a"}, {"speaker": "SYSTEM", "utterance": "b"}],
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    "single_text_chat": {"text": "### Human: hi ### Assistant: hello"},
    "spans": {"text": "Ann left", "entities": [{"start": 0, "end": 3, "label": "PER"}]},
    "split_pairs": {"train": [["lost card", "lost"]], "test": [["hello", "oos"]]},
    "squad": {
        "data": [
            {
                "title": "T",
                "paragraphs": [
                    {"context": "It is 5.", "qas": [{"id": "q", "question": "What?", "answers": [{"text": "5"}]}]}
                ],
            }
        ]
    },
    "extraction": {"text": "Ann left.", "json": {"who": "Ann"}},
    "translation": {"translation": {"de": "Guten Tag", "en": "Good day"}},
    "text": {"text": "Once upon a time.", "source": "books"},
    "text_pairs": {"document": "long one\nshort\n*******\nlong two\nshort two\n*******\n"},
    "tokens_tags": {"tokens": ["Ann", "left"], "ner_tags": ["B-PER", "O"]},
    "verifiable": {"question": "1+1?", "answer": "one and one\n#### 2"},
    "votes": {
        "instruction": "Say.",
        "input": "",
        "response1": "a",
        "response2": "b",
        "annotator1": 2,
        "annotator2": 2,
        "annotator3": 1,
    },
}


def read(name: str, row: dict, **options) -> list[Record]:
    plugin = FORMATS[name]()
    mapping = Mapping(**options)
    return [plugin.read(inner, where, mapping) for where, inner in plugin.expand(row, HERE)]


def one(name: str, row: dict, **options) -> Record:
    (record,) = read(name, row, **options)
    return record


@pytest.mark.parametrize("name", FORMATS)
def test_contract_a_format_knows_its_own_rows_before_all_others(name):
    plugin = FORMATS[name]()
    row = ROWS[name]
    scores = {other: FORMATS[other]().sniff(row) for other in FORMATS}
    assert scores[name] > 0
    assert all(score < scores[name] for other, score in scores.items() if other != name), scores
    assert isinstance(plugin, Format) and plugin.task
    assert (plugin.__doc__ or "").strip().startswith(("`", "A .txt")), "the docstring's first paragraph shows the shape"
    records = read(name, row)
    assert records and all(record.where.startswith("file.jsonl:") for record in records if name != "record")
    assert all(Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record for record in records)


JUNK = [{}, {"a": 1}, {"text": 5}, {"x": None}, {"messages": 3, "prompt": [], "conversations": {}, "conll": [["a"]]}]


@pytest.mark.parametrize("name", FORMATS)
def test_contract_junk_and_emptied_fields_are_refused_with_a_reason(name):
    plugin = FORMATS[name]()
    own = next(iter(plugin.expand(ROWS[name], HERE)))[1]
    for value in (None, 5, "", [], {}, [None], [[]], {"a": 1}, "\ud83d"):
        for key in own:
            row = {**own, key: value}
            try:
                record = plugin.read(row, HERE, Mapping())
            except (Bad, Drop) as error:
                assert str(error)
            else:
                assert isinstance(record, Record) and isinstance(record.id, str)
    for row in JUNK:
        plugin.sniff(row)
        if name not in ("record", "text"):
            with pytest.raises((Bad, Drop)) as raised:
                plugin.read(row, HERE, Mapping())
            assert str(raised.value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "human", "gpt", "B-X"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "text", "start", "end", "label"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_contract_no_row_raises_anything_but_bad_or_drop(name, data):
    plugin = FORMATS[name]()
    base = dict(ROWS[name])
    row = {key: data.draw(VALUES) if data.draw(st.booleans()) else value for key, value in base.items()}
    if plugin.sniff(row):
        try:
            for where, inner in plugin.expand(row, HERE):
                plugin.read(inner, where, Mapping())
        except (Bad, Drop):
            pass


def chat(*turns: dict, **more) -> dict:
    return {"messages": list(turns), **more}


BAD_RECORDS = {
    "no messages": ("chat", {"messages": []}, "messages is empty"),
    "messages missing": ("chat", {"text": "a"}, "messages is null, a list of turns is meant"),
    "messages is a string": ("chat", {"messages": "hi"}, "messages is a text, a list of turns is meant"),
    "turn is a string": ("chat", chat("hi"), "messages[0] is a text, an object with role and content is meant"),
    "unknown role": ("chat", chat(USER, {"role": "robot", "content": "x"}), "messages[1].role is 'robot', not one of"),
    "two system turns": (
        "chat",
        chat({"role": "system", "content": "a"}, {"role": "system", "content": "b"}, USER, ASSISTANT),
        "messages[1] is a second system turn",
    ),
    "late system turn": (
        "chat",
        chat(USER, {"role": "system", "content": "b"}, ASSISTANT),
        "messages[1] is a late system",
    ),
    "ends with user": (
        "chat",
        chat(USER, ASSISTANT, USER),
        "messages ends with a user turn: there is no answer to learn",
    ),
    "null content": ("chat", chat(USER, {"role": "assistant", "content": None}), "messages[1].content is null"),
    "empty content": ("chat", chat({"role": "user", "content": " "}, ASSISTANT), "messages[0].content is empty"),
    "image part": (
        "chat",
        chat({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, ASSISTANT),
        "messages[0].content[0] is image_url: only text parts can be trained on",
    ),
    "weight": ("chat", chat(USER, {**ASSISTANT, "weight": "1"}), "messages[1].weight is '1', a number from 0 is meant"),
    "tools not JSON": ("chat", chat(USER, ASSISTANT, tools="[{"), "tools is not JSON"),
    "tools not a list": ("chat", chat(USER, ASSISTANT, tools={"a": 1}), "tools is not a list of objects"),
    "tool_calls in a user turn": (
        "chat",
        chat({**USER, "tool_calls": [{}]}, ASSISTANT),
        "only the assistant calls tools",
    ),
    "chosen == rejected": (
        "preference",
        {"prompt": "a", "chosen": "b", "rejected": "b"},
        "chosen and rejected are the same",
    ),
    "missing rejected": ("preference", {"prompt": "a", "chosen": "b"}, "rejected is missing"),
    "label not bool": ("kto", {"prompt": "a", "completion": "b", "label": 1}, "label is 1, true or false is meant"),
    "prompt empty": ("prompt_completion", {"prompt": " ", "completion": "b"}, "prompt is empty"),
    "offset after the text": (
        "spans",
        {"text": "Ann", "spans": [[0, 9, "PER"]]},
        "spans[0]: [0, 9) does not lie in the text, which has 3",
    ),
    "offsets turned round": ("spans", {"text": "Ann", "spans": [[2, 1, "PER"]]}, "spans[0]: [2, 1) does not lie"),
    "tokens and tags differ": ("tokens_tags", {"tokens": ["a"], "tags": ["O", "O"]}, "1 tokens but 2 tags"),
    "tags are numbers": ("tokens_tags", {"tokens": ["a"], "tags": [0]}, "tags are numbers; write their names"),
    "tag without prefix": ("conll", {"conll": [["Ann", "PER"]]}, "tag 'PER' is not O, B-name"),
    "unknown speaker": (
        "sharegpt",
        {"conversations": [{"from": "robot", "value": "x"}]},
        "conversations[0].from is 'robot'",
    ),
    "no ####": ("verifiable", {"question": "a", "answer": "2"}, "answer has no ####"),
    "label a list": ("labelled", {"text": "a", "label": ["x", "y"]}, "several labels need task: multilabel"),
    "vote": (
        "votes",
        {"instruction": "a", "response1": "b", "response2": "c", "annotator1": 3},
        "annotator1 is 3, not 0 (tie)",
    ),
}


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_bad_record_is_refused_and_its_field_is_named(case):
    name, row, reason = BAD_RECORDS[case]
    with pytest.raises(Bad) as error:
        read(name, row)
    assert reason in str(error.value)


DROPS = {
    "empty answer": ("chat", chat(USER, {"role": "assistant", "content": ""}), "the last answer is empty"),
    "no completion": ("prompt_completion", {"prompt": "a", "completion": ""}, "completion is empty"),
    "no output": ("alpaca", {"instruction": "a", "output": " "}, "output is empty"),
    "no label": ("labelled", {"text": "a", "label": None}, "label is empty"),
    "no chosen": ("preference", {"prompt": "a", "chosen": "", "rejected": "b"}, "chosen is empty"),
    "no spans cell": ("spans", {"text": "a", "entities": ""}, "entities is empty"),
    "tie": (
        "votes",
        {"instruction": "a", "response1": "b", "response2": "c", "annotator1": 0},
        "tie between the two answers",
    ),
    "blank text": ("text", {"text": " \n"}, "text is empty"),
    "no final answer": ("verifiable", {"question": "a", "answer": "x ####"}, "nothing stands after ####"),
}


@pytest.mark.parametrize("case", DROPS)
def test_row_without_anything_to_learn_is_dropped_with_its_reason(case):
    name, row, reason = DROPS[case]
    with pytest.raises(Drop) as drop:
        read(name, row)
    assert str(drop.value) == reason and drop.value.expected == (case == "tie")


def test_reasons_speak_the_words_of_the_users_file():
    with pytest.raises(Drop, match="^claim_type is empty$"):
        read("labelled", {"text": "a", "label": ""}, columns={"label": "claim_type"})


def test_chat_keeps_weights_tools_names_and_what_follows_the_last_user_turn():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    row = chat(
        {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief"}]},
        {"role": "user", "content": "one", "name": "ann"},
        {"role": "assistant", "content": "1", "weight": 0},
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "c1"},
        ASSISTANT,
        tools=json.dumps([{"type": "function"}]),
        id=17,
        source="crm",
        long="x" * 500,
        nested={"a": 1},
        score=0.5,
    )
    record = one("chat", row)
    assert record.id == "17" and record.meta == {"source": "crm", "score": 0.5} and record.where == "file.jsonl:7"
    assert record.tools == ({"type": "function"},)
    assert [(turn.role, turn.content) for turn in record.prompt] == [
        ("developer", "Be\nbrief"),
        ("user", "one"),
        ("assistant", "1"),
        ("user", "hi"),
    ]
    assert record.prompt[2].weight == 0 and record.prompt[1].name == "ann"
    (completion,) = record.completions
    assert [turn.role for turn in completion.messages] == ["assistant", "tool", "assistant"]
    assert completion.messages[0].tool_calls == (call,) and completion.messages[1].tool_call_id == "c1"


def test_content_ids_follow_the_content_and_nothing_else():
    first, same = one("chat", chat(USER, ASSISTANT)), one("chat", chat(USER, ASSISTANT, source="x"))
    other = one("chat", chat(USER, {**ASSISTANT, "content": "bye"}))
    assert first.id == same.id != other.id and len(first.id) == 16
    assert one("kto", {**ROWS["kto"], "label": False}).id != one("kto", ROWS["kto"]).id


def test_prompt_completion_as_turns_and_raw():
    record = one("prompt_completion", ROWS["prompt_completion"])
    assert record.prompt == (Message("user", "hi"),) and record.completions == (
        Completion((Message("assistant", "hello"),)),
    )
    raw = one("prompt_completion", {"prompt": "", "completion": "hello"}, raw=True)
    assert raw.prompt == (Message("text", ""),) and raw.completions[0].messages == (Message("text", "hello"),)
    turns = one("prompt_completion", {"prompt": [{"role": "system", "content": "s"}, USER], "completion": [ASSISTANT]})
    assert [turn.role for turn in turns.prompt] == ["system", "user"] and turns.completions[0].text == "hello"


def test_alpaca_variants():
    record = one(
        "alpaca",
        {
            "instruction": "Add.",
            "context": "1 2",
            "response": "3",
            "system": "S",
            "history": [["a", "b"]],
            "category": "qa",
        },
    )
    assert [(turn.role, turn.content) for turn in record.prompt] == [
        ("system", "S"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "Add.\n\n1 2"),
    ]
    assert record.completions[0].text == "3" and record.meta == {"category": "qa"}
    seeds = read(
        "alpaca",
        {"id": "t", "instruction": "Do.", "instances": [{"input": "", "output": "1"}, {"input": "x", "output": "2"}]},
    )
    assert [(seed.id, seed.text, seed.completions[0].text) for seed in seeds] == [
        ("t-1", "Do.", "1"),
        ("t-2", "Do.\n\nx", "2"),
    ]


def test_sharegpt_odd_speakers_are_said_and_calls_become_tool_calls():
    notices: Counter[str] = Counter()
    row = {
        "system": "S",
        "tools": "[]",
        "conversations": [
            {"from": "user", "value": "a"},
            {"from": "bing", "value": "b"},
            {"from": "human", "value": "c"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": "é"}}'},
            {"from": "observation", "value": "{}"},
            {"from": "chatgpt", "value": "d"},
        ],
    }
    record = one("sharegpt", row, notices=notices)
    assert [turn.role for turn in record.prompt] == ["system", "user", "assistant", "user"]
    call, result, answer = record.completions[0].messages
    assert call.tool_calls[0]["function"] == {"name": "f", "arguments": '{"x": "é"}'} and result.role == "tool"
    assert notices == {
        "speaker 'user' read as user": 1,
        "speaker 'bing' read as assistant": 1,
        "speaker 'chatgpt' read as assistant": 1,
    }


def test_single_text_chat_of_several_turns():
    record = one("single_text_chat", {"text": "### Human: a\n### Assistant: b\n### Human: c #3\n### Assistant: d"})
    assert [turn.content for turn in record.prompt] == ["a", "b", "c #3"] and record.completions[0].text == "d"


def test_squad_nested_impossible_and_references():
    answers = [{"text": "5"}, {"text": "five"}]
    paragraph = {
        "context": "It is 5.",
        "qas": [
            {"id": "q1", "question": "What?", "answers": answers},
            {"id": "q2", "question": "Who?", "is_impossible": True, "answers": []},
        ],
    }
    first, second = read("squad", {"version": "2", "data": [{"title": "T", "paragraphs": [paragraph]}]})
    assert (first.id, first.text, first.completions[0].text) == ("q1", "It is 5.\n\nWhat?", "5")
    assert first.meta["references"] == ["5", "five"] and first.meta["group"] == "T"
    assert second.completions[0].text == "The text does not say."
    flat = {"id": "x", "context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}}
    assert one("squad", flat).completions[0].text == "a"


def test_labels_by_task():
    assert one("labelled", {"text": "a", "label": 3}).label == "3"
    assert one("labelled", {"text": "a", "label": True}).label == "true"
    assert one("labelled", {"text": "a", "label": "x;y"}).label == "x;y"
    assert one("labelled", {"text": "a", "label": "x; y;x"}, task="multilabel").label == ("x", "y")
    assert one("labelled", {"text": "a", "label": '["x", "y"]'}, task="multilabel").label == ("x", "y")
    assert one("labelled", {"text": "a", "label": []}, task="multilabel").label == ()
    assert one("labelled", {"text": "a", "label": "2.5"}, task="regression").label == 2.5
    for value in ("high", True, "nan", [1]):
        with pytest.raises(Bad, match="a number is meant"):
            read("labelled", {"text": "a", "label": value}, task="regression")


def test_split_pairs_keep_their_split():
    first, second = read("split_pairs", ROWS["split_pairs"])
    assert (first.text, first.label, first.meta) == ("lost card", "lost", {"split": "train"}) and second.meta[
        "split"
    ] == "test"


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-P I-P O B-L", [(0, 4, "P"), (8, 9, "L")]),
        ("B-P B-P O O", [(0, 2, "P"), (3, 4, "P")]),
        ("I-P I-P I-L O", [(0, 4, "P"), (5, 7, "L")]),
        ("B-P E-P S-L O", [(0, 4, "P"), (5, 7, "L")]),
        ("B-P L-P U-L B-P", [(0, 4, "P"), (5, 7, "L"), (8, 9, "P")]),
        ("O O O O", []),
        ("B-creative-work O O I-X", [(0, 2, "creative-work"), (8, 9, "X")]),
    ],
)
def test_tags_become_spans(tags, spans):
    tokens = ["ab", "c", "de", "f"]
    assert spans_of(tags.split(), offsets_of(tokens)) == tuple(Span(*span) for span in spans)


def test_bio_spans_equal_seqeval():
    entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    import random

    draw = random.Random(3)
    for _ in range(300):
        tags = [draw.choice(["O", "B-P", "I-P", "B-L", "I-L"]) for _ in range(draw.randint(1, 12))]
        offsets = [[at, at + 1] for at in range(len(tags))]
        assert [(span.label, span.start, span.end - 1) for span in spans_of(tags, offsets)] == entities(tags)


def test_conll_and_tokens_tags_give_text_spans_and_token_offsets():
    expected = (Span(0, 3, "PER"),)
    for name in ("conll", "tokens_tags"):
        record = one(name, ROWS[name])
        assert (record.text, record.label, record.meta["tokens"]) == ("Ann left", expected, [[0, 3], [4, 8]])
    assert one("tokens_tags", {"tokens": "['Ann', 'left']", "tags": "['B-PER', 'O']"}).label == expected
    assert one("conll", {"conll": [["Ann", "NNP", "I-NP", "B-PER"], ["left", "VBD", "O", "O"]]}).label == expected


def test_spans_in_their_variants():
    for marks in ([[0, 3, "PER"]], [{"start": 0, "end": 3, "type": "PER"}], '[{"start": 0, "end": 3, "label": "PER"}]'):
        assert one("spans", {"text": "Ann left", "entities": marks}).label == (Span(0, 3, "PER"),)
    assert one("spans", {"text": "Ann left", "spans": []}).label == ()
    notices: Counter[str] = Counter()
    one("spans", {"text": "Ann left", "spans": [[0, 3, "A"], [2, 5, "B"]]}, notices=notices)
    assert notices == {"text with overlapping spans": 1}


def test_preference_with_implicit_prompt_and_written_turns():
    system = {"role": "system", "content": "s"}
    record = one(
        "preference", {"chosen": [system, USER, ASSISTANT], "rejected": [system, USER, {**ASSISTANT, "content": "no"}]}
    )
    assert [turn.role for turn in record.prompt] == ["system", "user"] and [
        each.text for each in record.completions
    ] == ["hello", "no"]
    shared = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: "
    record = one("preference", {"chosen": shared + "good", "rejected": shared + "bad"})
    assert [turn.content for turn in record.prompt] == ["a", "b", "c"] and [
        each.text for each in record.completions
    ] == ["good", "bad"]
    with pytest.raises(Bad, match="prompt is missing"):
        read("preference", {"chosen": "a", "rejected": "b"})
    whole = one(
        "preference",
        {"prompt": [USER], "chosen": [USER, ASSISTANT], "rejected": [USER, {**ASSISTANT, "content": "no"}]},
    )
    assert [len(each.messages) for each in whole.completions] == [1, 1]


def test_openai_preference_keeps_tools():
    row = {**ROWS["openai_preference"], "non_preferred_output": [{**ASSISTANT, "content": "no"}]}
    row["input"] = {"messages": [USER], "tools": [{"type": "function"}]}
    record = one("openai_preference", row)
    assert [each.text for each in record.completions] == ["hello", "no"] and record.tools == ({"type": "function"},)


def test_votes_put_the_better_first_with_its_share():
    record = one("votes", ROWS["votes"])
    assert [(each.text, round(each.score, 2)) for each in record.completions] == [("b", 0.67), ("a", 0.33)]


def test_kto_verifiable_persona_pairs_and_dialogues():
    assert one("kto", {**ROWS["kto"], "label": "False"}).completions[0].good is False
    gsm = one("verifiable", ROWS["verifiable"])
    assert gsm.answer == "2" and gsm.completions[0].text == "one and one\n#### 2"
    grpo = one("verifiable", {"prompt": [USER], "answer": 42})
    assert grpo.answer == "42" and grpo.completions == ()
    assert [each.text for each in one("persona", ROWS["persona"]).completions] == ["Yes", "No"]
    pair = one("pairs", ROWS["pairs"])
    assert (
        pair.text == "One. Two."
        and pair.completions[0].text == "1, 2."
        and pair.meta["references"] == ["1, 2.", "One and two."]
    )
    dialogue = one("sgd_dialogues", ROWS["sgd_dialogues"])
    assert dialogue.id == "1" and dialogue.text == "a" and dialogue.completions[0].text == "b"


def test_text_pairs_keep_their_lines_and_refuse_three():
    first, second = read("text_pairs", ROWS["text_pairs"])
    assert second.where == "file.jsonl:10" and (second.text, second.completions[0].text) == ("long two", "short two")
    with pytest.raises(Bad, match="3 lines before"):
        read("text_pairs", {"document": "a\nb\nc\n*******\n"})


def test_plain_text_has_no_prompt():
    record = one("text", {"document": "# Title\n\nbody\n"})
    assert record.prompt == () and record.completions == (Completion((Message("text", "# Title\n\nbody\n"),)),)
