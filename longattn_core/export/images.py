"""Charts as files for print: SVG, PNG and PDF, rendered without a browser and without the network.

Source: vl-convert (Vega-Lite in a small embedded engine). When it draws, it fetches pictures and tables by their addresses,
also those that its own list of allowed addresses forbids. So every chart is first made into SVG, where nothing is fetched yet,
and a chart that refers to anything outside itself is refused.
"""

import importlib.util
import json
import re
import shutil
from typing import Any, Literal, get_args

from longattn_core.charts.style.altair import altair_lock

Format = Literal["svg", "png", "pdf"]

_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_PICTURE = re.compile(r"<(?:image|use|feImage)\b[^>]*?\bhref=\"(?!data:image/|#)([^\"]{0,80})")


def chart_to_svg(chart: Any) -> str:
    """An Altair chart as SVG text; strings of the data are escaped. About 0.1 s for a curve, 0.3 s for a map.

    Raises:
        ValueError: the chart cannot be drawn, or it refers to something outside itself; the sentence says which.
    """
    import altair as alt
    import vl_convert

    if not hasattr(chart, "to_dict"):
        raise ValueError(f"an image is made from an Altair chart, found {type(chart).__name__}")
    # Altair limits the rows of a chart for web pages; a file needs no limit.
    with altair_lock, alt.data_transformers.enable("default", max_rows=None):
        specification = _writable(chart.to_dict())
    _refuse_addresses(specification)
    try:
        svg = str(vl_convert.vegalite_to_svg(json.dumps(specification), allowed_base_urls=[]))
    except ValueError as error:
        raise ValueError(f"the chart cannot be drawn: {str(error).splitlines()[0]}") from None
    if outside := _PICTURE.search(svg):
        raise ValueError(f"the chart points to a picture outside of itself, {outside[1]!r}; pictures must be data URIs")
    return svg


def chart_to_png(chart: Any, *, scale: float = 2.0) -> bytes:
    """An Altair chart as a PNG file, `scale` dots a pixel.

    Raises:
        ValueError: the scale is not between 0.5 and 8, or the chart cannot be drawn.
    """
    import vl_convert

    if not 0.5 <= scale <= 8:
        raise ValueError(f"scale is {scale}; a PNG is drawn at 0.5 to 8 dots a pixel")
    return bytes(vl_convert.svg_to_png(chart_to_svg(chart), scale=scale))


def chart_to_pdf(chart: Any) -> bytes:
    """An Altair chart as a PDF file of one page.

    Raises:
        ValueError: the chart cannot be drawn.
    """
    import vl_convert

    return bytes(vl_convert.svg_to_pdf(chart_to_svg(chart)))


def plotly_images() -> bool:
    """Whether Plotly figures can be exported here: the package kaleido and a Chromium are both found."""
    browsers = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return importlib.util.find_spec("kaleido") is not None and any(map(shutil.which, browsers))


def figure_to_image(figure: Any, format: Format, *, scale: float = 2.0) -> bytes:
    """A Plotly figure as a file. It needs the optional package `kaleido` and a Chromium.

    Raises:
        ValueError: the format is unknown, or the figure cannot be drawn because kaleido is missing.
    """
    _check(format)
    if importlib.util.find_spec("kaleido") is None:
        raise ValueError(
            "this figure is drawn by Plotly, whose image export needs the package kaleido and a Chromium; "
            "install kaleido, or export the figure's data"
        )
    return bytes(figure.to_image(format=format, scale=scale))


def image(chart: Any, format: Format, *, scale: float = 2.0) -> bytes:
    """An Altair or Plotly chart as the bytes of a file.

    Raises:
        ValueError: the format is unknown, the object is no chart, or it cannot be drawn.
    """
    _check(format)
    if hasattr(chart, "to_plotly_json"):
        return figure_to_image(chart, format, scale=scale)
    if format == "svg":
        return chart_to_svg(chart).encode()
    return chart_to_png(chart, scale=scale) if format == "png" else chart_to_pdf(chart)


def _check(format: str) -> None:
    if format not in get_args(Format):
        raise ValueError(f"format is {format!r}; allowed are {', '.join(get_args(Format))}")


def _writable(part: Any) -> Any:
    """The specification without the characters that XML forbids: a token may contain any of them."""
    if isinstance(part, str):
        return _UNWRITABLE.sub("□", part)
    if isinstance(part, dict):
        return {_writable(name): _writable(value) for name, value in part.items()}
    return [_writable(value) for value in part] if isinstance(part, list | tuple) else part


def _refuse_addresses(part: Any) -> None:
    """Refuse tables that would be fetched: only `data` and `from` objects have addresses of tables."""
    if isinstance(part, list):
        for value in part:
            _refuse_addresses(value)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name == "data" and isinstance(value, dict) and "url" in value:
                raise ValueError(f"the chart points to data outside of itself, {str(value['url'])[:80]!r}")
            if name not in ("datasets", "values"):
                _refuse_addresses(value)
