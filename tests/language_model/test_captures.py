"""Captures of sample texts that stay on the disk: the same numbers, from nobody's own text, and never from a damaged file."""

import os

import pytest
import torch
from safetensors import SafetensorError

from longattn_core.language_model import captures
from longattn_core.language_model.model import LanguageModel, load_language_model
from longattn_core.sequences import library, sources
from longattn_core.sequences.sources import TextSource

pytestmark = pytest.mark.model
IDS = (504, 2352, 282, 260, 1215)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(captures, "cache_folder", lambda: tmp_path)
    sources._calibration.cache_clear()
    return tmp_path / "captures"


@pytest.fixture
def runs(monkeypatch):
    """How often the model read."""
    counted = []
    capture = LanguageModel.capture

    def counting(*args, **kwargs):
        counted.append(args)
        return capture(*args, **kwargs)

    monkeypatch.setattr(LanguageModel, "capture", counting)
    return counted


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in captures.NAMES)


def test_the_second_reading_comes_from_the_disk_to_the_last_bit(folder, runs):
    first = captures.captured(IDS, 1, keep=True)
    again = captures.captured(IDS, 1, keep=True)
    assert len(runs) == 1
    assert same(first, again)
    assert same(again, load_language_model().capture(IDS, 1)[1])


def test_every_question_has_a_file_of_its_own(folder, runs, monkeypatch):
    captures.captured(IDS, 1, keep=True)
    captures.captured(IDS, 2, keep=True)
    captures.captured(IDS, 1, rotary=False, keep=True)
    captures.captured(IDS[:-1], 1, keep=True)
    monkeypatch.setattr(captures, "_maker", lambda: "another release")
    captures.captured(IDS, 1, keep=True)
    assert len(runs) == 5
    assert len(list(folder.iterdir())) == 5


@pytest.mark.parametrize("damage", ["a number", "the end", "everything"])
def test_a_damaged_file_is_read_again_by_the_model(folder, runs, damage):
    first = captures.captured(IDS, 1, keep=True)
    (path,) = folder.iterdir()
    held = bytearray(path.read_bytes())
    held[-1] ^= 64
    path.write_bytes({"a number": bytes(held), "the end": bytes(held[:-9]), "everything": b"{}"}[damage])
    assert same(captures.captured(IDS, 1, keep=True), first)
    assert len(runs) == 2


def test_only_samples_are_kept(folder):
    TextSource(text="My own words.", layer=0, length=8).sequence()
    TextSource(sha256=library.put(b"My own words, and many of them."), layer=0, length=8).sequence()
    kept = {path.name for path in folder.iterdir()}
    assert len(kept) == 1, "the calibration, which is a sample, and nothing else"
    TextSource(sample="story.txt", layer=0, length=8).sequence()
    assert len(list(folder.iterdir())) == 2


def test_the_folder_stays_within_its_bound_and_forgets_the_oldest(folder, monkeypatch):
    for layer in range(3):
        captures.captured(IDS, layer, keep=True)
    oldest, *_rest = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for age, path in enumerate(sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)):
        os.utime(path, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(captures, "MOST_BYTES", int(2.5 * oldest.stat().st_size))
    captures.captured(IDS, 3, keep=True)
    assert not oldest.exists()
    assert len(list(folder.iterdir())) == 3


def test_without_a_folder_that_can_be_written_the_model_reads(tmp_path, monkeypatch, runs):
    (tmp_path / "captures").write_text("a file in the folder's place", encoding="utf-8")
    monkeypatch.setattr(captures, "cache_folder", lambda: tmp_path)
    first, again = (captures.captured(IDS, 0, keep=True) for _reading in range(2))
    assert same(first, again)
    assert len(runs) == 2


def test_a_write_that_fails_leaves_the_reading_as_it_is(folder, runs, monkeypatch):
    def full(*_args, **_kwargs):
        raise SafetensorError("Error while serializing: no space left on device")

    monkeypatch.setattr(captures, "save_file", full)
    captures.captured(IDS, 0, keep=True)
    assert len(runs) == 1
    assert not [*folder.iterdir()]
