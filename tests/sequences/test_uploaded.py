"""A person's own q, k and v: what is read, and one sentence for everything that is not, whatever the bytes."""

import contextlib
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from longattn_core.sequences import array_files, uploaded
from longattn_core.sequences.limits import MAX_NUMBERS, MAX_TOKENS
from longattn_core.sequences.uploaded import MAX_BYTES, MAX_HEADS, MAX_SIZE, MAX_WIDTH, uploaded_sequence
from tests.support.statistics import generator_numbers


def npz(compressed=False, **arrays):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def heads(*, h=2, shared=None, n=5, d=4, e=3, dtype=np.float32):
    shared = h if shared is None else shared
    shapes = {"q": (h, n, d), "k": (shared, n, d), "v": (shared, n, e)}
    return {name: generator_numbers(name, *shape).astype(dtype) for name, shape in shapes.items()}


def refusal(data):
    with pytest.raises(ValueError, match="cannot be read") as error:
        uploaded_sequence(data, name="mine.npz")
    text = str(error.value)
    assert text.startswith("mine.npz cannot be read: ")
    assert text.endswith(".")
    assert "\n" not in text
    return text


# ------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_is_read_as_it_is(compressed):
    arrays = heads()
    sequence = uploaded_sequence(npz(compressed, **arrays), name="mine.npz", causal=False)
    for name in ("q", "k", "v"):
        np.testing.assert_array_equal(getattr(sequence, name).numpy(), arrays[name])
    assert not sequence.causal
    assert sequence.key_value_groups == 1
    assert sequence.origin == "Uploaded: mine.npz."
    assert sequence.calibration is None


def test_safetensors_and_a_path_are_read_too(tmp_path):
    arrays = heads()
    path = tmp_path / "mine.safetensors"
    path.write_bytes(save({name: torch.from_numpy(array) for name, array in arrays.items()}))
    for given_as in (path, path.read_bytes()):
        sequence = uploaded_sequence(given_as)
        for name in ("q", "k", "v"):
            np.testing.assert_array_equal(getattr(sequence, name).numpy(), arrays[name])
    with pytest.raises(ValueError, match="there is no file 'none"):
        uploaded_sequence(tmp_path / "none.npz")


def test_one_head_needs_no_axis_of_heads():
    arrays = {name: array[0] for name, array in heads(h=1).items()}
    sequence = uploaded_sequence(npz(**arrays))
    assert sequence.q.shape == (1, 5, 4)
    np.testing.assert_array_equal(sequence.v[0].numpy(), arrays["v"])


def test_grouped_keys_are_repeated_for_neighbouring_heads():
    arrays = heads(h=6, shared=2)
    sequence = uploaded_sequence(npz(**arrays))
    assert sequence.key_value_groups == 3
    for head in range(6):
        np.testing.assert_array_equal(sequence.k[head].numpy(), arrays["k"][head // 3])
        np.testing.assert_array_equal(sequence.v[head].numpy(), arrays["v"][head // 3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_halves_become_single_and_double_stays(dtype):
    tensors = {name: torch.from_numpy(array).to(dtype) for name, array in heads().items()}
    sequence = uploaded_sequence(save(tensors))
    assert sequence.q.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(sequence.v, tensors["v"].to(sequence.v.dtype))


def test_one_double_makes_all_double():
    arrays = heads()
    arrays["v"] = arrays["v"].astype(np.float64)
    assert uploaded_sequence(npz(**arrays)).q.dtype == torch.float64


def test_other_byte_and_axis_orders_are_the_same_numbers():
    arrays = heads()
    turned = {name: np.asfortranarray(array.astype(">f4")) for name, array in arrays.items()}
    sequence = uploaded_sequence(npz(**turned))
    for name in ("q", "k", "v"):
        np.testing.assert_array_equal(getattr(sequence, name).numpy(), arrays[name])


def test_padding_positions_and_tokens_come_along():
    sides = {
        "padding": np.array([1, 1, 1, 1, 0]),
        "positions": np.array([3, 4, 5, 9, 0], dtype=np.int32),
        "tokens": np.array(["Une", " été", " 雨", "🙂", "\ud800"]),
    }
    sequence = uploaded_sequence(npz(**heads(), **sides))
    assert sequence.padding.tolist() == [True, True, True, True, False]
    assert sequence.token_positions.tolist() == [3, 4, 5, 9, 0]
    assert sequence.tokens == ("Une", " été", " 雨", "🙂", "?")
    assert uploaded_sequence(npz(**heads(), padding=np.array([True] * 5))).real.all()


def test_a_length_and_a_sharpness_are_applied():
    whole = uploaded_sequence(npz(**heads()))
    sequence = uploaded_sequence(npz(**heads()), length=3, sharpness=4.0)
    torch.testing.assert_close(sequence.q, 2 * whole.q[:, :3], rtol=1e-6, atol=0)
    assert uploaded_sequence(npz(**heads()), length=99).n == 5


# ----------------------------------------------------------------------------------------- what is refused


def changed(name, array):
    return npz(**{**heads(), name: array})


@pytest.mark.parametrize(
    ("data", "found", "allowed"),
    [
        (b"", "0 bytes are neither", ".safetensors nor .npz"),
        (b"hello, world", "12 bytes are neither", ".safetensors nor .npz"),
        (pickle.dumps({"q": 1}), "looks like a pickle, which is never opened", ".npz"),
        (npz(q=np.zeros((5, 4))), "holds q and lacks k, v", "q, k and v are needed"),
        (npz(a=np.zeros(1), b=np.zeros(1)), "holds a, b and lacks k, q, v", "q, k and v are needed"),
        (npz(**heads(), paddding=np.ones(5)), "holds paddding besides", "allowed are q, k, v, padding"),
        (changed("q", np.zeros((2, 5, 4), np.int64)), "q is int64", "allowed are float16, bfloat16"),
        (changed("v", np.zeros((2, 5, 3), np.complex64)), "v is complex64", "allowed are float16"),
        (changed("q", np.zeros((2, 5, 4), "V2")), "q is void16", "NumPy has no bfloat16: use .safetensors"),
        (changed("q", np.zeros((1, 2, 5, 4), np.float32)), "found [1, 2, 5, 4]", "[n d] or [h n d]"),
        (changed("q", np.float32(1)), "found []", "[n d] or [h n d]"),
        (changed("q", np.zeros((2, 0, 4), np.float32)), "q is empty", "[2, 0, 4]"),
        (changed("k", np.zeros((2, 5, 6), np.float32)), "found [5, 6]", "tokens and width of q, [5, 4]"),
        (changed("k", np.zeros((1, 5, 4), np.float32)), "found [2, 5]", "heads and tokens of k, [1, 5]"),
        (changed("v", np.zeros((2, 4, 3), np.float32)), "found [2, 4]", "heads and tokens of k, [2, 5]"),
        (npz(**heads(h=4, shared=3)), "of k and v, 3", "must divide those of q, 4"),
        (changed("k", np.full((2, 5, 4), np.nan, np.float32)), "k holds 40 values", "all must be finite"),
        (changed("q", np.full((2, 5, 4), 3e30, np.float32)), "q holds 3e+30", f"at most {MAX_SIZE:g}"),
        (npz(**heads(), padding=np.ones(4)), "padding is float64", "allowed are bool"),
        (npz(**heads(), padding=np.ones(4, bool)), "found [4]", "one entry a token, the shape [5]"),
        (npz(**heads(), padding=np.array([1, 2, 0, 1, 1])), "padding must hold true or 1", "nothing else"),
        (npz(**heads(), padding=np.zeros(5, bool)), "padding marks every token as padding", "at least one"),
        (npz(**heads(), positions=np.array([0, 1, 2, 3, -4])), "found -4 … 3", "0 … 2147483647"),
        (npz(**heads(), positions=np.zeros(5)), "positions is float64", "allowed are int8"),
        (npz(**heads(), tokens=np.arange(5)), "tokens is int64", "allowed are text"),
    ],
)
def test_a_refusal_says_what_was_found_and_what_is_allowed(data, found, allowed):
    text = refusal(data)
    assert found in text
    assert allowed in text


def test_an_array_of_objects_is_not_unpickled():
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    trap = np.empty((5, 4), dtype=object)
    trap[0, 0] = Trap()
    buffer = io.BytesIO()
    np.savez(buffer, **{**heads(), "q": trap}, allow_pickle=True)
    assert "holds Python objects, which only a pickle can store, and pickles are never opened" in refusal(buffer.getvalue())


def test_a_checkpoint_and_a_lone_array_are_named():
    buffer = io.BytesIO()
    torch.save({"q": torch.zeros(2, 2)}, buffer)
    assert "PyTorch checkpoint, a pickle, which is never opened" in refusal(buffer.getvalue())
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 4)))
    assert "a single .npy array; save q, k and v together with numpy.savez" in refusal(buffer.getvalue())


def header_only(shapes, *, dtype="<f4", packing=zipfile.ZIP_DEFLATED):
    """A .npz whose headers promise shapes that no numbers follow."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, shape in shapes.items():
            member = io.BytesIO()
            np.lib.format.write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


def promised(h, n, d, e):
    return {"q": (h, n, d), "k": (h, n, d), "v": (h, n, e)}


@pytest.mark.parametrize(
    ("shapes", "dtype", "words"),
    [
        (promised(1, MAX_TOKENS + 1, 4, 4), "<f4", f"65,537 tokens; at most {MAX_TOKENS:,}"),
        (promised(MAX_HEADS + 1, 8, 4, 4), "<f4", "65 heads; at most 64"),
        (promised(1, 8, MAX_WIDTH + 1, 4), "<f4", "513 channels; at most 512"),
        (promised(1, 8, 4, MAX_WIDTH + 1), "<f4", "513 channels; at most 512"),
        (promised(64, 65_536, 512, 512), "<f2", f"at most {MAX_BYTES:,} are allowed"),
        (promised(1, 10**9, 10**9, 10**9), "<f8", f"at most {MAX_BYTES:,} are allowed"),
        ({"q": (64, 65_536, 20), "k": (1, 65_536, 20), "v": (1, 65_536, 20)}, "<f2", f"at most {MAX_NUMBERS:,} are allowed"),
    ],
)
def test_sizes_are_refused_from_the_headers_before_anything_is_unpacked(shapes, dtype, words, monkeypatch):
    monkeypatch.setattr(array_files, "_npy", lambda *_: pytest.fail("numbers were read"))
    assert words in refusal(header_only(shapes, dtype=dtype))


def test_a_promise_that_is_not_kept_is_refused():
    assert "its array 'q' cannot be unpacked" in refusal(header_only(promised(1, 8, 4, 4)))


def test_odd_archives_are_refused():
    buffer = io.BytesIO(npz(**heads()))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("q.npy", b"")
    assert "'q.npy' is no .npy array, or is there twice" in refusal(buffer.getvalue())
    assert "packed in a way that numpy.savez does not use" in refusal(header_only(promised(1, 2, 2, 2), packing=zipfile.ZIP_LZMA))
    many = npz(**{f"a{i}": np.zeros(1) for i in range(70)})
    assert "holds 70 members; at most 64" in refusal(many)


def test_a_file_that_is_too_large_is_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(uploaded, "MAX_BYTES", 100)
    data = npz(**heads())
    assert f"holds {len(data):,} bytes; at most 100 are allowed" in refusal(data)
    path = tmp_path / "large.npz"
    path.write_bytes(data)
    monkeypatch.setattr(type(path), "read_bytes", lambda _: pytest.fail("the file was read"))
    assert "at most 100 are allowed" in refusal(path)


def test_a_safetensors_header_is_bounded():
    claimed = (10**8).to_bytes(8, "little") + b'{"q":' + bytes(50)
    assert "header claims 100,000,000 bytes; at most 1,000,000 are allowed" in refusal(claimed)


# --------------------------------------------------------------------------------------------- hostile bytes

WHOLE = {
    "npz": npz(**heads(), tokens=np.array(list("abcde"))),
    "packed": npz(compressed=True, **heads()),
    "safetensors": save({name: torch.from_numpy(array) for name, array in heads().items()}),
}


def reads_or_refuses(data):
    """Some bytes happen to be a file still: then it is read; nothing but a ValueError may come out otherwise."""
    with contextlib.suppress(ValueError):
        uploaded_sequence(data)


def test_names_inside_a_file_cannot_break_the_line():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("q\n\x1b[31m", "k", "v"):
            member = io.BytesIO()
            np.save(member, np.zeros((5, 4)))
            archive.writestr(f"{name}.npy", member.getvalue())
    assert refusal(buffer.getvalue()).isprintable()


@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\x40\0\0\0\0\0\0\0{", b"\x93NUMPY\x01\x00", b"\x80\x04"]))
@example(b"\xff" * 64, b"PK\x05\x06")
def test_random_bytes_give_nothing_but_a_sentence(data, start):
    reads_or_refuses(start + data)


@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1))
def test_truncated_files_give_nothing_but_a_sentence(kind, part):
    whole = WHOLE[kind]
    cut = whole[: int(part * len(whole))]
    if len(cut) < len(whole):
        with pytest.raises(ValueError, match="cannot be read"):
            uploaded_sequence(cut)


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_files_give_nothing_but_a_sentence(kind, damages):
    data = bytearray(WHOLE[kind])
    for place, value in damages:
        data[min(int(place * len(data)), len(data) - 1)] = value
    reads_or_refuses(bytes(data))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120))
@example("{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 4)}")
@example("{'descr': '<f4', 'fortran_order': False, 'shape': (10**9,)}")
@example("{'descr': '|O', 'fortran_order': False, 'shape': (5, 4)}")
@example("{'descr': '<U99999999', 'fortran_order': False, 'shape': (5,)}")
@example("(" * 120)
def test_hostile_npy_headers_give_nothing_but_a_sentence(header):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("q", "k", "v"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(ValueError, match="cannot be read"):
        uploaded_sequence(buffer.getvalue())
