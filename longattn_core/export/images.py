"""Charts as files for print: SVG, PNG and PDF, rendered without a browser.

Source: vl-convert (Vega-Lite in a small embedded engine). Pictures travel inside the chart, so nothing is fetched.
"""

import importlib.util
import json
from typing import Any, Literal, get_args

Format = Literal["svg", "png", "pdf"]

MEDIA_TYPES: dict[Format, str] = {"svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf"}


def chart_to_svg(chart: Any) -> str:
    """An Altair chart as SVG text; strings of the data are escaped. About 0.1 s for a curve, 0.3 s for a map.

    Raises:
        ValueError: the chart cannot be drawn; the sentence says why.
    """
    import vl_convert

    return str(_drawn(lambda specification: vl_convert.vegalite_to_svg(specification, allowed_base_urls=[]), chart))


def chart_to_png(chart: Any, *, scale: float = 2.0) -> bytes:
    """An Altair chart as a PNG file, `scale` dots a pixel.

    Raises:
        ValueError: the scale is not between 0.5 and 8, or the chart cannot be drawn.
    """
    import vl_convert

    if not 0.5 <= scale <= 8:
        raise ValueError(f"scale is {scale}; a PNG is drawn at 0.5 to 8 dots a pixel")
    return bytes(
        _drawn(
            lambda specification: vl_convert.vegalite_to_png(specification, scale=scale, allowed_base_urls=[]), chart
        )
    )


def chart_to_pdf(chart: Any) -> bytes:
    """An Altair chart as a PDF file of one page.

    Raises:
        ValueError: the chart cannot be drawn.
    """
    import vl_convert

    return bytes(_drawn(lambda specification: vl_convert.vegalite_to_pdf(specification, allowed_base_urls=[]), chart))


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
    """Any chart of ours, Altair's or Plotly's, as the bytes of a file.

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


def _drawn(draw: Any, chart: Any) -> Any:
    if not hasattr(chart, "to_dict"):
        raise ValueError(f"an image is made from an Altair chart, found {type(chart).__name__}")
    # The specification may hold more rows than Altair allows for a web page; a file has no such limit.
    import altair as alt

    with alt.data_transformers.disable_max_rows():
        specification = chart.to_dict()
    try:
        return draw(json.dumps(specification))
    except ValueError as error:
        raise ValueError(f"the chart cannot be drawn: {str(error).splitlines()[0]}") from None
