"""Sources: what a study holds, in its short form and in the one that carries everything."""

import base64
import hashlib
import io
import json
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from longattn_core.contracts.sequence import Sequence
from longattn_core.sequences import library, sources
from longattn_core.sequences.library import Library, UnknownContentError
from longattn_core.sequences.samples import sample_language, sample_text, samples
from longattn_core.sequences.sources import LINK_CHARACTERS, Source, SyntheticSource, TextSource, UploadedSource, read_source
from longattn_core.sequences.synthetic import KINDS, synthetic
from tests.support.statistics import generator_numbers

LONG = "Ein langer Satz, der weit trägt. " * 40


def upload(h=3, n=6):
    buffer = io.BytesIO()
    np.savez(buffer, **{name: generator_numbers(f"upload {name}", h, n, 4) for name in "qkv"})
    return buffer.getvalue()


SOURCES = {
    "text": TextSource(text="Two words.", length=40, layer=3, heads=(0, 8), sharpness=0.25, causal=False, rotary=False),
    "sample": TextSource(sample="code.txt"),
    "synthetic": SyntheticSource(settings=synthetic("needle", n=33, lead=3.5, causal=False, seed=4)),
    "uploaded": UploadedSource(sha256=library.put(upload()), name="mine.npz", head=2, length=5, causal=False),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_source_survives_every_way_out(source):
    adapter = TypeAdapter(Source)
    for form in (source, source.linked(), source.embedded()):
        assert adapter.validate_json(form.model_dump_json()) == form
        # The short form leaves out what is as by default; the kind is told beside it.
        short = form.model_dump(mode="json", exclude_defaults=True) | {"kind": form.kind}
        assert adapter.validate_python(json.loads(json.dumps(short))) == form
    assert source.embedded().linked() == source.linked()


@pytest.mark.parametrize("kind", KINDS)
def test_every_synthetic_kind_survives_a_short_dump(kind):
    source = SyntheticSource(settings=synthetic(kind))
    short = source.model_dump(mode="json", exclude_defaults=True) | {"kind": "synthetic"}
    assert read_source(short) == source
    assert len(json.dumps(short)) < 80


def test_a_synthetic_source_gives_the_drawn_sequence_under_its_mask():
    source = SOURCES["synthetic"]
    drawn = source.settings.sequence()
    assert torch.equal(source.sequence().q, drawn.q)
    assert not source.sequence().causal
    assert source.masked(True).sequence().causal
    assert source.masked(True).settings.lead == 3.5


# ------------------------------------------------------------------------------------------------------ texts


class Reader:
    """Stands in for the language model: notes what it is asked, and gives heads that know it."""

    def __init__(self):
        self.asked = []

    def __call__(self, text, **settings):
        self.asked.append((text, settings))
        h, n = len(settings["heads"]), min(settings["length"] or 20, 20)
        numbers = torch.from_numpy(generator_numbers("reader", h, n, 4))
        return Sequence(q=numbers, k=numbers, v=numbers, causal=settings.get("causal", True))


@pytest.fixture
def reader(monkeypatch):
    import longattn_core.sequences.text as module

    reader = Reader()
    monkeypatch.setattr(module, "text_sequence", reader)
    sources._calibration.cache_clear()
    yield reader
    sources._calibration.cache_clear()


def test_a_text_is_read_as_the_source_says(reader):
    sequence = SOURCES["text"].sequence()
    text, settings = reader.asked[0]
    assert text == "Two words."
    assert settings == {
        "layer": 3,
        "heads": (0, 8),
        "causal": False,
        "rotary": False,
        "length": 40,
        "language": "en",
        "keep": False,
    }
    assert sequence.sharpness == 0.25
    torch.testing.assert_close(sequence.q, 0.5 * torch.from_numpy(generator_numbers("reader", 2, 20, 4)), rtol=1e-12, atol=0)


def test_the_calibration_is_another_text_by_the_same_heads_and_is_kept(reader):
    first = SOURCES["text"].sequence()
    text, settings = reader.asked[1]
    assert text == sample_text("encyclopedia.txt")
    assert (settings["heads"], settings["layer"], settings["rotary"], settings["length"]) == ((0, 8), 3, False, 512)
    assert settings["keep"], "a sample comes with the laboratory"
    assert first.calibration.sharpness == 0.25
    assert not first.calibration.causal
    SOURCES["text"].model_copy(update={"text": "Three short words."}).sequence()
    assert len(reader.asked) == 3, "the same calibration was read twice"
    TextSource(sample="encyclopedia.txt").sequence()
    assert reader.asked[-1][0] == sample_text("story.txt"), "a text was calibrated on itself"


def test_nothing_given_is_the_default_sample_and_a_sample_knows_its_language(reader):
    TextSource().sequence()
    assert reader.asked[0][0] == sample_text("story.txt")
    TextSource(sample="chinese.txt").sequence()
    assert reader.asked[2][1]["language"] == sample_language("chinese.txt") == "zh"
    TextSource(text="文。", language="zh").sequence()
    assert reader.asked[-1][1]["language"] == "zh"


def test_an_empty_text_reaches_the_reader_which_says_so():
    for text in ("", "  \n "):
        with pytest.raises(ValueError, match=r"The text is (empty|blank)"):
            TextSource(text=text).sequence()


def test_a_short_text_travels_and_a_long_one_goes_by_its_hash():
    short = TextSource(text="a" * LINK_CHARACTERS)
    assert short.linked() is short
    linked = TextSource(text=LONG).linked()
    assert linked.text is None
    assert linked.sha256 == hashlib.sha256(LONG.encode()).hexdigest()
    assert linked.content() == LONG
    assert linked.embedded() == TextSource(text=LONG)
    assert linked.linked() is linked
    assert TextSource(text="\ud800" * 700).linked().content() == "?" * 700


def test_samples_are_named_and_only_those_are_read():
    assert {sample.file for sample in samples()} >= {"story.txt", "code.txt"}
    with pytest.raises(ValueError, match=r"There is no sample text '\.\./\.\./secret'; there are story\.txt"):
        TextSource(sample="../../secret").content()


# -------------------------------------------------------------------------------------------------- uploads


def test_an_upload_is_read_head_by_head():
    data = upload()
    source = UploadedSource(sha256=library.put(data), name="mine.npz", sharpness=4.0)
    whole = source.sequence()
    assert (whole.h, whole.n, whole.causal, whole.sharpness) == (3, 6, True, 4.0)
    one = SOURCES["uploaded"].sequence()
    assert (one.h, one.n, one.causal) == (1, 5, False)
    torch.testing.assert_close(2 * one.q[0], whole.q[2, :5], rtol=1e-12, atol=0)
    assert source.masked(False).sequence().causal is False
    with pytest.raises(ValueError, match="has 3 heads, counted from 0; head 3 is not among them"):
        source.model_copy(update={"head": 3}).sequence()


def test_an_embedded_upload_needs_no_library():
    source = UploadedSource(sha256=library.put(upload()), name="mine.npz")
    embedded = source.embedded()
    assert embedded.sha256 == ""
    assert base64.b64decode(embedded.data) == upload()
    assert torch.equal(embedded.sequence().q, source.sequence().q)
    assert embedded.linked() == source
    assert embedded.embedded() is embedded
    assert "data" not in repr(embedded), "an error would print the whole file"
    with pytest.raises(ValueError, match="The bytes of mine"):
        embedded.model_copy(update={"data": "no base64!"}).sequence()


def test_no_file_and_an_unknown_file_are_said():
    with pytest.raises(ValueError, match="No file has been given yet"):
        UploadedSource().sequence()
    with pytest.raises(UnknownContentError, match="The content 000000000000… is not on this computer") as error:
        UploadedSource(sha256="0" * 64).sequence()
    assert "give the text or the file again" in str(error.value)
    with pytest.raises(UnknownContentError):
        UploadedSource(sha256="0" * 64).embedded()


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"kind": "txt"}, "Input tag 'txt' found using 'kind' does not match"),
        ({"kind": "text", "lenght": 3}, "there is no field 'text.lenght'"),
        ({"kind": "text", "text": "a", "sample": "story.txt"}, "a text comes from one place, found sample and text"),
        ({"kind": "text", "heads": [1, 1]}, "heads must be different numbers in 0 … 8"),
        ({"kind": "text", "heads": [9]}, "heads must be different numbers in 0 … 8"),
        ({"kind": "text", "heads": []}, "'text.heads' cannot be "),
        ({"kind": "text", "layer": 30}, "'text.layer' cannot be 30"),
        ({"kind": "text", "length": 0}, "'text.length' cannot be 0"),
        ({"kind": "text", "sharpness": float("nan")}, "'text.sharpness' cannot be nan"),
        ({"kind": "text", "sha256": "../../secret"}, "'text.sha256' cannot be '../../secret'"),
        ({"kind": "synthetic"}, "'synthetic.settings' cannot be "),
        ({"kind": "synthetic", "settings": {"kind": "needle", "d": 3}}, "the width d must be even, found 3"),
        ({"kind": "uploaded", "sha256": "xyz"}, "'uploaded.sha256"),
        ("{", "This source cannot be read"),
    ],
)
def test_a_wrong_source_gets_one_sentence(content, words):
    with pytest.raises(ValueError, match="This source cannot be read") as error:
        read_source(content)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_long_wrong_value_is_cut_in_the_sentence():
    with pytest.raises(ValueError, match=r"characters\)") as error:
        read_source({"kind": "uploaded", "name": "x" * 5000})
    assert len(str(error.value)) < 300


def test_sources_are_frozen():
    with pytest.raises(ValidationError):
        SOURCES["text"].layer = 4


# --------------------------------------------------------------------------------------------------- library


def test_the_library_forgets_what_was_not_asked_for_longest():
    shelf = Library(capacity=30)
    first, second, third = (shelf.put(letter * 10) for letter in (b"a", b"b", b"c"))
    assert shelf.put(b"a" * 10) == first
    assert shelf.size == 30
    assert shelf.get(second) == b"b" * 10
    # Asked for, oldest first: the third, the first (given again), the second.
    fourth = shelf.put(b"d" * 10)
    assert [name in shelf for name in (first, second, third, fourth)] == [True, True, False, True]
    shelf.put(b"e" * 10)
    assert [name in shelf for name in (first, second, fourth)] == [False, True, True]
    assert shelf.size == 30
    with pytest.raises(ValueError, match="holds 31 bytes; at most 30 can be kept"):
        shelf.put(b"e" * 31)
    assert shelf.size == 30


@pytest.mark.parametrize("name", ["", "abc", "A" * 64, "../" * 30, "0" * 63 + "\n"])
def test_a_name_that_is_no_hash_is_said(name):
    with pytest.raises(UnknownContentError, match="64 hexadecimal digits"):
        Library().get(name)


def test_the_library_changes_only_under_its_lock():
    shelf = Library(capacity=30)

    class Watched(OrderedDict):
        def __setitem__(self, name, data):
            assert shelf._lock.locked()
            super().__setitem__(name, data)

        def move_to_end(self, name, last=True):
            assert shelf._lock.locked()
            super().move_to_end(name, last)

        def popitem(self, last=True):
            assert shelf._lock.locked()
            return super().popitem(last)

    shelf._held = Watched()
    for i in range(8):
        assert shelf.get(shelf.put(bytes([i]) * 10)) == bytes([i]) * 10
    assert shelf.size == 30
    assert not shelf._lock.locked()


def test_a_library_needs_room():
    with pytest.raises(ValueError, match="at least one byte, found 0"):
        Library(capacity=0)


def test_synthetic_and_uploaded_sequences_need_no_language_model():
    program = (
        "import sys; from longattn_core.sequences.sources import SyntheticSource, TextSource\n"
        "SyntheticSource.model_validate({'settings': {'kind': 'needle', 'n': 9}}).sequence()\n"
        "loaded = [name for name in sys.modules if 'language_model' in name or name in ('tokenizers', 'gguf')]\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
