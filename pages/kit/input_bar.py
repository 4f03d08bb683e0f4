"""The input bar in the sidebar of every page: which sequence the mechanisms read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from longattn_core.sequences import library
from longattn_core.sequences.sources import Source, SyntheticSource, TextSource, UploadedSource
from longattn_core.sequences.synthetic import KINDS
from pages.kit import state
from pages.kit.dials import dials
from pages.kit.text import _, data

DEFAULT_SAMPLE = "story.txt"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a page's input bar shows to a visitor who has chosen nothing: a head or a sequence that suits the page.

    `dials` holds, for a kind of synthetic sequence, the values of its dials that differ from the kind's own defaults.
    """

    source: str = "text"
    sample: str = DEFAULT_SAMPLE
    n: int = 512
    head: str = "17.3"
    beta: float = 1.0
    rotary: bool = True
    mask: str = "causal"
    kind: str = "needle"
    dials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


OWN = "own"
_OF_THE_BAR = re.compile(r"source|sample|text|textid|n|head|mask|rotary|beta|kind|file|filename|uploadhead|syn\..*")
"""Names of the values that the input bar writes into the state."""
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
SHARPNESS = (0.0625, 0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
LONGEST_TEXT = 60_000
"""Characters that the text box takes: more than 8,192 tokens have in any language."""
SHORT_TEXT = 600
"""A text of at most this many characters is part of the link; of a longer one the link has the hash."""


def input_bar(given: Inputs) -> Source:
    """Draw the input bar and return the source that it describes.

    What the visitor has chosen, on this page or another, is kept; the rest is the page's own, `given`. A text stays in its box
    even where it cannot be read.
    """
    with st.sidebar:
        st.divider()
        kinds = {"text": _("Text"), "synthetic": _("Synthetic"), "uploaded": _("Your q, k, v")}
        kind = state.choose(
            "source",
            _("What is read"),
            list(kinds),
            default=given.source,
            labels=kinds.__getitem__,
            style="segments",
            help=_("Real heads of a language model on a text, a sequence that isolates one property, or your own tensors."),
        )
        if kind == "synthetic":
            source: Source = _synthetic(given)
        elif kind == "uploaded":
            source = _uploaded(given)
        else:
            source = _text(given)
    return source


def bar_state() -> dict[str, str]:
    """The values of the state that describe the source."""
    return {name: value for name, value in state.snapshot().items() if _OF_THE_BAR.fullmatch(name)}


def _mask(given: Inputs) -> bool:
    names = {"causal": _("causal"), "none": _("none")}
    return (
        state.choose(
            "mask",
            _("Mask"),
            list(names),
            default=given.mask,
            labels=names.__getitem__,
            style="segments",
            help=_("Causal: a token sees only what came before, as the model was trained. None: every token sees every other."),
        )
        == "causal"
    )


def _sharpness(given: Inputs) -> float:
    return state.slide(
        "beta",
        _("Sharpness β"),
        SHARPNESS,
        default=given.beta,
        parse=float,
        shown=lambda value: f"{value:g}",
        help=_("Multiplies every score, q·k. 1 is as the model has them; exact attention moves with it."),
    )


def _text(given: Inputs) -> TextSource:
    samples = {entry["file"]: entry for entry in data("texts/index.json")}
    names = {name: entry["title"] for name, entry in samples.items()} | {OWN: _("Your own text")}
    sample = state.choose("sample", _("Text"), list(names), default=given.sample, labels=names.__getitem__)
    text = _own_text() if sample == OWN else None
    length = state.slide(
        "n",
        _("Tokens read, at most"),
        LENGTHS,
        default=given.n,
        parse=int,
        shown=lambda value: f"{value:,}",
        help=_("The first so many tokens of the text. Long texts take longer: the model reads them first."),
    )
    layer, head = _head(given)
    causal = _mask(given)
    rotary = state.switch(
        "rotary",
        _("Rotary positions"),
        default=given.rotary,
        help=_("As the model has them: queries and keys turned by their position. Off: content alone."),
    )
    return TextSource(
        sample=None if sample == OWN else sample,
        text=text,
        length=length,
        layer=layer,
        heads=(head,),
        sharpness=_sharpness(given),
        causal=causal,
        rotary=rotary,
    )


def _own_text() -> str:
    key = "in:text"
    if key not in st.session_state:
        st.session_state[key] = _text_from_link()
    file = st.file_uploader(_("A .txt file"), type="txt", key="in:txt", max_upload_size=1)
    if file is not None and st.session_state.get("_read_file") != file.file_id:
        st.session_state["_read_file"] = file.file_id
        try:
            st.session_state[key] = file.getvalue().decode("utf-8-sig")[:LONGEST_TEXT]
        except UnicodeDecodeError as error:
            st.error(_("{name} is not UTF-8 text: byte {place} cannot be read.").format(name=file.name, place=error.start))
    text: str = st.text_area(
        _("Your text"),
        key=key,
        max_chars=LONGEST_TEXT,
        height=180,
        placeholder=_("Type or paste a text; its last word will look back over it."),
    )
    state.remember("text", text if len(text) <= SHORT_TEXT else None, "")
    state.remember("textid", library.put(text.encode()) if len(text) > SHORT_TEXT else None)
    return text


def _text_from_link() -> str:
    short = state.recall("text", "", str)
    name = state.recall("textid", "", str)
    if short or not name:
        return short
    try:
        return library.get(name).decode("utf-8", "replace")
    except ValueError:
        st.warning(_("The link's text is no longer on this server; paste it again to see the same picture."))
        return ""


def _head(given: Inputs) -> tuple[int, int]:
    named = {f"{entry['layer']}.{entry['head']}": entry["name"] for entry in data("heads.json")}
    layer, head = state.recall("head", given.head, _pair).split(".")
    current = f"{layer}.{head}"
    options = list(named) if current in named else [*named, current]
    labels = {name: f"L{name.replace('.', ' H')} · {named.get(name, _('chosen by number'))}" for name in options}
    chosen = state.choose(
        "head",
        _("Head"),
        options,
        default=given.head,
        labels=labels.__getitem__,
        help=_("One of the 270 heads of SmolLM2-135M: 30 layers (L) of 9 heads (H)."),
    )
    with st.expander(_("Another head, by number")):
        first, second = (int(part) for part in chosen.split("."))
        columns = st.columns(2)
        layer_number = columns[0].number_input(_("Layer"), 0, 29, first, key=f"layer of {chosen}")
        head_number = columns[1].number_input(_("Head"), 0, 8, second, key=f"head of {chosen}")
        if (layer_number, head_number) != (first, second):
            state.put({"head": f"{layer_number}.{head_number}"})
            st.rerun()
    return first, second


def _pair(text: str) -> str:
    layer, head = (int(part) for part in text.split("."))
    if not (0 <= layer <= 29 and 0 <= head <= 8):
        raise ValueError("no such head")
    return f"{layer}.{head}"


def _synthetic(given: Inputs) -> SyntheticSource:
    titles = {name: kind.title for name, kind in KINDS.items()}
    name = state.choose("kind", _("Sequence"), list(KINDS), default=given.kind, labels=titles.__getitem__)
    st.caption(_(KINDS[name].idea))
    skip = frozenset({"kind", "causal", "sharpness", "dtype", "heads"})
    made = dials(KINDS[name], f"syn.{name}", skip=skip, start=KINDS[name].model_validate(given.dials.get(name, {})))
    settings = made.model_copy(update={"causal": _mask(given), "sharpness": _sharpness(given)})
    return SyntheticSource.model_validate({"kind": "synthetic", "settings": settings.model_dump()})


def _uploaded(given: Inputs) -> UploadedSource:
    file = st.file_uploader(
        _("q, k and v"),
        type=["safetensors", "npz"],
        key="in:qkv",
        help=_("Arrays q, k and v of shape [n d] or [h n d], float16, bfloat16, float32 or float64, in .safetensors or .npz."),
    )
    if file is not None:
        state.remember("file", library.put(file.getvalue()))
        state.remember("filename", file.name[:80])
    head = state.whole("uploadhead", _("Head"), least=0, most=63, default=0)
    causal, sharpness = _mask(given), _sharpness(given)
    name = state.recall("file", "", _sha)
    if not name:
        st.info(_("Choose a file with q, k and v to read it here."))
    return UploadedSource(
        sha256=name, name=state.recall("filename", "upload", str), head=head, causal=causal, sharpness=sharpness
    )


def _sha(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("no content has this name")
    return text
