"""Texts as sequences: real heads taken out rightly, sentences and paragraphs at their places, bad texts in one sentence."""

import re
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from longattn_core.contracts.sequence import Levels, Sequence, exact_rows
from longattn_core.language_model import weights as weights_module
from longattn_core.language_model.model import load_language_model
from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.language_model.weights import WeightsMissing
from longattn_core.numerics.rotary import unrotate
from longattn_core.sequences.levels import paragraph_starts, sentence_starts, text_levels
from longattn_core.sequences.samples import Sample, sample_text, samples
from longattn_core.sequences.text import text_sequence

STORY = "The red boat sank. Nobody saw it go, and nobody asked.\n\nIn the morning the red boat was back."


def levels_of(text: str, language: str = "en") -> Levels:
    return text_levels(text, load_tokenizer().encode(text).offsets, language=language)


# ------------------------------------------------------------------------------------------------- heads of the model


def test_heads_keys_and_values_are_the_model_s() -> None:
    sequence = text_sequence(STORY, layer=3, heads=(7, 2))
    ids = load_tokenizer().encode(STORY).ids
    captured = load_language_model().capture(ids, 3)[3]
    for place, head in enumerate((7, 2)):
        assert torch.equal(sequence.q[place], captured.q[head])
        assert torch.equal(sequence.k[place], captured.k[head // 3])
        assert torch.equal(sequence.v[place], captured.v[head // 3])
    assert (sequence.heads, sequence.total_heads, sequence.key_value_groups) == ((7, 2), 9, 3)
    assert (sequence.h, sequence.n, sequence.d, sequence.e) == (2, len(ids), 64, 64)
    assert sequence.causal
    assert sequence.q.dtype == torch.float32
    assert sequence.token_positions.tolist() == list(range(len(ids)))


def test_the_hero_of_the_home_page() -> None:
    sequence = text_sequence(sample_text("story.txt"), heads=(3,))
    row = exact_rows(sequence, queries=511)[0, 0]
    assert sequence.tokens is not None
    assert sequence.offsets is not None
    assert (sequence.n, sequence.tokens[511], sequence.tokens[31]) == (512, " green", " clock")
    assert float(row[31]) == pytest.approx(0.957, abs=1e-3)
    start, end = sequence.offsets[31]
    assert sample_text("story.txt")[start:end] == " clock"


def test_all_nine_heads_share_keys_by_threes() -> None:
    sequence = text_sequence(STORY, layer=1)
    assert sequence.heads == tuple(range(9))
    for head in range(9):
        assert torch.equal(sequence.k[head], sequence.k[head // 3 * 3])
        assert torch.equal(sequence.v[head], sequence.v[head // 3 * 3])
    assert not torch.equal(sequence.k[0], sequence.k[3])
    assert not torch.equal(sequence.q[0], sequence.q[1])


def test_rotary_can_be_left_off_and_can_be_taken_off() -> None:
    turned, plain = (text_sequence(STORY, layer=2, rotary=rotary) for rotary in (True, False))
    assert plain.rotary is None
    assert turned.rotary is not None
    assert not torch.equal(turned.q, plain.q)
    for name in ("q", "k"):
        taken_off = unrotate(getattr(turned, name), turned.token_positions, turned.rotary)
        # float32 round-off on entries of up to about 30.
        assert_close(taken_off, getattr(plain, name), rtol=0, atol=3e-5)
    assert torch.equal(turned.v, plain.v)


def test_sharpness_multiplies_the_scores() -> None:
    plain, sharp = (text_sequence(STORY, layer=2, sharpness=sharpness) for sharpness in (1.0, 0.25))
    assert (plain.sharpness, sharp.sharpness) == (1.0, 0.25)
    assert torch.equal(sharp.q @ sharp.k.mT, (plain.q * 0.5) @ (plain.k * 0.5).mT)
    assert torch.equal(sharp.v, plain.v)


def test_the_mask_changes_nothing_but_the_mask() -> None:
    causal, free = (text_sequence(STORY, layer=2, causal=causal) for causal in (True, False))
    assert (causal.causal, free.causal) == (True, False)
    assert torch.equal(causal.q, free.q)
    assert torch.equal(causal.v, free.v)


def test_length_keeps_the_first_tokens_as_they_were_in_the_whole() -> None:
    whole, cut = text_sequence(STORY, layer=2), text_sequence(STORY, layer=2, length=7)
    assert cut.n == 7
    assert whole.tokens is not None
    assert whole.offsets is not None
    assert whole.levels is not None
    assert cut.levels is not None
    assert cut.tokens == whole.tokens[:7]
    assert cut.offsets == whole.offsets[:7]
    assert torch.equal(cut.levels.sentence, whole.levels.sentence[:7])
    # The model is causal; only the order of float32 sums may differ with the length.
    assert_close(cut.q, whole.q[:, :7], rtol=0, atol=1e-4)
    assert text_sequence(STORY, layer=2, length=500).n == whole.n


def test_calibration_is_another_text_read_the_same_way() -> None:
    other = "Quite another text, on quite another matter."
    sequence = text_sequence(STORY, layer=2, heads=(4, 1), sharpness=0.25, rotary=False, calibration=other)
    alone = text_sequence(other, layer=2, heads=(4, 1), sharpness=0.25, rotary=False)
    assert sequence.calibration is not None
    assert torch.equal(sequence.calibration.q, alone.q)
    assert torch.equal(sequence.calibration.k, alone.k)
    assert sequence.calibration.heads == (4, 1)
    assert sequence.calibration.rotary is None


@pytest.mark.parametrize(
    ("options", "origin"),
    [
        ({"heads": (3,), "layer": 2}, "SmolLM2-135M-Instruct.Q4_1, layer 2, head 3, on 25 tokens of a text."),
        (
            {"heads": (3, 4), "layer": 0, "length": 5, "rotary": False},
            "SmolLM2-135M-Instruct.Q4_1, layer 0, heads 3, 4, on the first 5 of 25 tokens of a text, without rotary positions.",
        ),
    ],
)
def test_a_sequence_says_where_it_came_from(options: dict[str, object], origin: str) -> None:
    assert text_sequence(STORY, **options).origin == origin


# ---------------------------------------------------------------------------------------- texts of every sort and none


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The text is empty; write at least one word."),
        (" \t\r\n\n\u3000", "The text is blank: it holds only spaces and line ends; write at least one word."),
        ("word" + " word" * 8192, "The text has 8,193 tokens, and the model reads at most 8,192: shorten it, or set a length"),
        ("half \ud83d a character", "Character 6 of the text is U+D83D, which the language model's vocabulary cannot"),
        ("a\x06b", "Character 2 of the text is U+0006"),
    ],
)
def test_a_text_that_cannot_be_read_says_why(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        text_sequence(text, layer=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layer": 30}, "layer is 30; the model has layers 0 to 29."),
        ({"layer": -1}, "layer is -1"),
        ({"heads": (9,)}, "heads must be numbers in 0 … 8, at least one; found [9]."),
        ({"heads": ()}, "heads must be numbers in 0 … 8, at least one; found []."),
        ({"length": 0}, "length must lie in 1 … 8,192 tokens, found 0."),
        ({"length": 8193}, "length must lie in 1 … 8,192 tokens, found 8,193."),
        ({"sharpness": 0.0}, "sharpness must be a positive number"),
    ],
)
def test_a_setting_that_does_not_exist_is_named(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        text_sequence("word", **{"layer": 0, **options})


def test_a_text_too_long_is_read_as_far_as_a_length_says() -> None:
    sequence = text_sequence("word" + " word" * 8999, layer=0, heads=(0,), length=100)
    assert sequence.n == 100
    assert sequence.origin.endswith("on the first 100 of 9,000 tokens of a text.")


@pytest.mark.parametrize(
    "text", ["word", "👩‍👩‍👧‍👦 family", "שלום עולם", "السلام عليكم. كيف حالك؟", "a\x00b", "\ufeffmark", "e\u0301"]
)
def test_unusual_texts_are_read_whole(text: str) -> None:
    sequence = text_sequence(text, layer=0, heads=(0,))
    assert sequence.tokens is not None
    assert sequence.offsets is not None
    assert sequence.n == len(load_tokenizer().encode(text).ids)
    assert set().union(*(range(start, end) for start, end in sequence.offsets)) == set(range(len(text)))
    assert text_sequence("word", layer=0).n == 1


def test_missing_weights_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(WeightsMissing, match=r"^The language model's weights are not installed: .*\.$"):
        weights_module.converted_weights()
    monkeypatch.setattr("longattn_core.sequences.text.load_language_model", weights_module.converted_weights)
    with pytest.raises(WeightsMissing):
        text_sequence("word")


ANY_TEXT = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.sampled_from([*"aZ1 .!?。？！\n\r\t\"'()…é,;:-你好ي؟\x00\u2029", "👍"]), max_size=60),
)


def check_levels(text: str, levels: Levels, offsets: tuple[tuple[int, int], ...]) -> None:
    for groups in (levels.sentence.tolist(), levels.paragraph.tolist()):
        assert len(groups) == len(offsets)
        assert groups[0] == 0
        assert all(after - before in (0, 1) for before, after in pairwise(groups))
    paragraphs = dict(zip(levels.sentence.tolist(), levels.paragraph.tolist(), strict=True))
    for sentence, paragraph in zip(levels.sentence.tolist(), levels.paragraph.tolist(), strict=True):
        assert paragraphs[sentence] == paragraph


@settings(max_examples=60)
@given(ANY_TEXT)
@example("one")
@example("\r\n\r\nA. B.\r\n\r\n\r\n \r\nC")
def test_any_text_gives_a_sequence_or_one_sentence(text: str) -> None:
    try:
        sequence = text_sequence(text, layer=0, heads=(0,))
    except ValueError as refused:
        message = str(refused)
    else:
        assert sequence.offsets is not None
        assert sequence.levels is not None
        check_levels(text, sequence.levels, sequence.offsets)
        return
    assert message.endswith(".")
    assert "\n" not in message
    assert not text.strip() or message.startswith("Character ")


# --------------------------------------------------------------------------------------------- sentences, paragraphs


@settings(max_examples=300)
@given(ANY_TEXT)
def test_sentences_and_paragraphs_tile_any_text(text: str) -> None:
    sentences, paragraphs = sentence_starts(text), paragraph_starts(text)
    for starts in (sentences, paragraphs):
        assert starts[0] == 0
        assert starts == sorted(set(starts))
        assert all(start < len(text) for start in starts[1:])
    assert set(paragraphs) <= set(sentences)
    if text.strip():
        assert all(text[start:end].strip() for start, end in pairwise([*paragraphs, len(text)]))
    for start, end in pairwise([*sentences, len(text)]):
        # Only a paragraph without any word may be a sentence without one.
        assert any(map(str.isalnum, text[start:end])) or start in paragraphs


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_paragraphs_stand_between_blank_lines(ending: str) -> None:
    text = "\n\nOne. Two\nstill two.\n\n \t\n\n\nThree.\n \nFour.\n\n".replace("\n", ending)
    starts = paragraph_starts(text)
    assert [text[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)] == [
        f"One. Two{ending}still two.",
        "Three.",
        "Four.",
    ]
    starts = sentence_starts(text)
    assert [text[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)] == [
        "One.",
        f"Two{ending}still two.",
        "Three.",
        "Four.",
    ]


def test_a_space_belongs_to_the_word_that_follows_it() -> None:
    levels = levels_of("He came. We stayed.\n\nThen we left.")
    assert levels.sentence.tolist() == [0] * 3 + [1] * 5 + [2] * 4
    assert levels.paragraph.tolist() == [0] * 8 + [1] * 4


def test_chinese_sentences_and_pieces_of_characters() -> None:
    text = "天黑了。灯亮了！\n\n谁来了？"
    encoded = load_tokenizer().encode(text)
    levels = text_levels(text, encoded.offsets, language="zh")
    for (start, _), sentence in zip(encoded.offsets, levels.sentence.tolist(), strict=True):
        assert sentence == (0 if start < 4 else 1 if start < 10 else 2)
    assert levels.paragraph.max() == 1


def sentences_of(text: str, language: str = "en") -> list[str]:
    starts = sentence_starts(text, language=language)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def test_marks_without_a_word_join_their_neighbour() -> None:
    docstring = '"""Read it.\n\nIt says more."""\n\n    left = right'
    assert sentences_of(docstring) == ['"""Read it.\n\n', 'It says more."""\n\n', "    left = right"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.file)
def test_sample_texts_are_cut_where_they_should_be(sample: Sample, ending: str) -> None:
    text = sample_text(sample.file).replace("\n", ending)
    paragraphs, sentences = paragraph_starts(text), sentence_starts(text, language=sample.language)
    blocks = [block for block in re.split(f"{ending}(?:{ending})+", text) if block.strip()]
    assert len(paragraphs) == len(blocks)
    assert all(text.startswith(block, start) for start, block in zip(paragraphs, blocks, strict=True))
    cuts = [text[:start].rstrip() for start in sentences[1:] if start not in paragraphs]
    # Inside a paragraph a sentence ends with its mark, and perhaps quotation marks or brackets after it.
    assert all(re.search(r"""[.!?:。！？…]["')\]”’ ]*$""", before) for before in cuts)
    assert all(any(map(str.isalnum, sentence)) for sentence in sentences_of(text, sample.language))
    assert len(sentences) >= len(paragraphs) + (0 if sample.kind == "source code" else 15)
    encoded = load_tokenizer().encode(text)
    check_levels(text, text_levels(text, encoded.offsets, language=sample.language), encoded.offsets)


def test_the_story_s_sentences_are_counted() -> None:
    levels = levels_of(sample_text("story.txt"))
    assert int(levels.paragraph.max()) + 1 == 5
    text = sample_text("story.txt")
    ends = re.findall(r"[.?!](?:\"|(?=\s))", text)
    # Every full stop of this plain text ends a sentence; '," he said' does not, and the last sentence has no stop.
    assert int(levels.sentence.max()) + 1 == len(ends) + 1


def test_levels_ride_along_in_the_sequence() -> None:
    sequence = text_sequence(STORY, layer=0)
    assert isinstance(sequence, Sequence)
    assert sequence.levels is not None
    expected = levels_of(STORY)
    assert torch.equal(sequence.levels.sentence, expected.sentence)
    assert torch.equal(sequence.levels.paragraph, expected.paragraph)
    assert int(expected.sentence.max()) == 2
    assert int(expected.paragraph.max()) == 1
