"""The sample texts are what their index says, and the model reads in them what the index promises."""

import ast
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from longattn_core.language_model.model import exact_attention, load_language_model
from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.sequences.samples import sample_text, samples
from tests.support.paths import ROOT

FOLDER = ROOT / "assets/texts"
INDEX: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text("utf-8"))
BY_FILE = {entry["file"]: entry for entry in INDEX}
each = pytest.mark.parametrize("entry", INDEX, ids=[entry["file"] for entry in INDEX])


def plain_row(file: str, layer: int, head: int, query: int) -> Tensor:
    """One row of causal attention by the formula: softmax(q·k/√64) over the keys up to the query."""
    ids = load_tokenizer().encode(sample_text(file)).ids
    captured = load_language_model().capture(ids[: query + 1], layer)[layer]
    scores = captured.k[head // 3].double() @ captured.q[head, query].double() / 8
    return (scores - scores.max()).exp() / (scores - scores.max()).exp().sum()


def test_every_text_is_listed_once_and_the_story_comes_first() -> None:
    assert sorted(BY_FILE) == sorted(file.name for file in FOLDER.glob("*.txt"))
    assert len(BY_FILE) == len(INDEX)
    assert [sample.file for sample in samples()] == [entry["file"] for entry in INDEX]
    assert INDEX[0]["file"] == "story.txt"
    assert {"long story", "encyclopedic article", "dialogue", "source code"} <= {entry["kind"] for entry in INDEX}
    assert {entry["language"] for entry in INDEX} == {"en", "zh"}


@each
def test_tokens_are_counted_truly_and_are_enough(entry: dict[str, Any]) -> None:
    tokens = len(load_tokenizer().encode(sample_text(entry["file"])).ids)
    assert tokens == entry["tokens"]
    assert tokens >= {"story.txt": 512, "long_story.txt": 4000}.get(entry["file"], 1000)
    assert tokens <= 6000


@each
def test_texts_are_clean(entry: dict[str, Any]) -> None:
    raw = (FOLDER / entry["file"]).read_bytes()
    text = raw.decode("utf-8")
    assert raw.endswith(b"\n") == text.endswith("\n")
    assert not text.endswith("\n\n")
    assert not set(text) & {"\r", "\x00", "\ufeff", "\ufffd"}
    assert entry["title"]
    assert entry["description"].endswith(".")
    assert entry["look"]["note"].endswith(".")


def check_look(entry: dict[str, Any], row: Tensor) -> None:
    look, tokens = entry["look"], load_tokenizer().encode(sample_text(entry["file"])).tokens
    assert (tokens[look["query"]], tokens[look["key"]]) == (look["query_token"], look["key_token"])
    assert int(row.argmax()) == look["key"]
    # Rounded to three digits in the index; float32 arithmetic differs between processors by less than 1e-4.
    assert float(row[look["key"]]) == pytest.approx(look["weight"], abs=1e-3)


@pytest.mark.parametrize("file", [file for file in BY_FILE if file != "long_story.txt"])
def test_what_to_look_at_is_there(file: str) -> None:
    look = BY_FILE[file]["look"]
    check_look(BY_FILE[file], plain_row(file, look["layer"], look["head"], look["query"]))


def test_the_story_s_last_word_gives_clock_96_percent_over_480_tokens() -> None:
    row = plain_row("story.txt", layer=17, head=3, query=511)
    assert float(row[31]) == pytest.approx(0.957, abs=1e-3)
    assert BY_FILE["story.txt"]["look"]["query"] - BY_FILE["story.txt"]["look"]["key"] == 480
    assert load_tokenizer().encode(sample_text("story.txt")).tokens[30:32] == (" green", " clock")


def test_the_long_story_plants_its_fact_once_and_asks_for_it_at_the_end() -> None:
    text, tokenizer, model = sample_text("long_story.txt"), load_tokenizer(), load_language_model()
    encoded, look = tokenizer.encode(text), BY_FILE["long_story.txt"]["look"]
    assert text.count("violin") == 1
    assert encoded.tokens.index(" violin") == look["key"] < 100
    assert text.endswith("folded inside the broken")
    rows = []

    def recording(q: Tensor, k: Tensor, v: Tensor, layer: int) -> Tensor:
        if layer == look["layer"]:
            rows.append((k[look["head"]].double() @ q[look["head"], -1].double() / 8).softmax(0))
        return exact_attention(q, k, v, layer)

    # One pass for both: four thousand tokens through thirty layers are the longest computation of this file.
    shares = model.logits(encoded.ids, positions=[-1], attention=recording)[0].softmax(-1)
    check_look(BY_FILE["long_story.txt"], rows[0])
    (answer,) = tokenizer.encode(" violin").ids
    assert float(shares[answer]) > 0.5
    # The end alone does not say it: the model has it from the sentence at the beginning.
    end_alone = model.logits(encoded.ids[-400:], positions=[-1])[0].softmax(-1)
    assert float(end_alone[answer]) < 0.05


def test_the_code_runs_and_reads_back_what_it_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    text = (FOLDER / "code.txt").read_text("utf-8")
    ast.parse(text)
    exec(compile(text, "code.txt", "exec"), {"__name__": "__main__"})
    assert "37 symbols, 114 bits, 16 bytes" in capsys.readouterr().out


def test_the_topics_are_paragraphs_of_several_sentences() -> None:
    paragraphs = sample_text("topics.txt").split("\n\n")
    assert len(paragraphs) >= 6
    assert all(paragraph.count(". ") >= 3 for paragraph in paragraphs)


def test_the_chinese_text_is_mostly_pieces_of_characters() -> None:
    encoded = load_tokenizer().encode(sample_text("chinese.txt"))
    assert sum("\\x" in token for token in encoded.tokens) > 0.5 * len(encoded.tokens)
    assert torch.tensor(encoded.offsets).diff(dim=0).min() == 0
