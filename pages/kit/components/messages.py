"""What the app's browser parts share: their files, the bytes that they read, and the words that they show."""

import json
import struct
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from longattn_core.charts.style.scales import DIFFERENCE_FLOOR, WEIGHT_FLOOR, Kind, Scale
from pages.kit.text import _

ASSETS = Path(__file__).resolve().parents[3] / "assets" / "components"


@cache
def component_source(name: str) -> tuple[str, str]:
    """The style sheet and the script of a browser part, each behind what both parts share."""
    style, script = (
        "\n".join((ASSETS / f"{part}.{kind}").read_text(encoding="utf-8") for part in ("common", name)) for kind in ("css", "js")
    )
    return style, script


def pack(head: Mapping[str, Any], planes: Mapping[str, bytes]) -> bytes:
    """One message: the length of the head, the head as JSON, then the planes one behind the other.

    The head gains `signature`, a hash of everything, so that the browser can leave alone what has not changed.
    """
    body = b"".join(planes.values())
    sizes = [[name, len(plane)] for name, plane in planes.items()]
    known = json.dumps({**head, "planes": sizes})
    signature = blake2b(known.encode() + body, digest_size=12).hexdigest()
    text = f'{known[:-1]}, "signature": "{signature}"}}'.encode()
    return struct.pack("<I", len(text)) + text + body


def scale_head(scale: Scale) -> dict[str, Any]:
    """What the browser must know of a scale to turn a code back into a value."""
    floor = DIFFERENCE_FLOOR if scale.kind == "difference" else WEIGHT_FLOOR
    return {"kind": scale.kind, "top": scale.top, "floor": floor, "ticks": [list(tick) for tick in scale.ticks()]}


def fingerprint(tokens: tuple[str, ...]) -> str:
    """A short name of a text, so that a choice made in one text is not applied to another."""
    return blake2b("\0".join(tokens).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@cache
def scale_words(kind: Kind) -> dict[str, str]:
    """The words beside a colour bar of this kind, and those that stand in place of a number."""
    return {
        "scale": {"log": _("weight"), "linear": _("weight"), "difference": _("mechanism \N{MINUS SIGN} exact")}[kind],
        "key_never": _("never looked at"),
        "key_paper": _("looked, found nothing"),
        "key_future": _("the future"),
        "key_below": _("below zero"),
        "never_short": _("never"),
        "future_short": _("future"),
        "below_short": _("< 0"),
    }
