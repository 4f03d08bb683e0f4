"""The scripts that every page needs, named in the document, so that a browser has them before a session asks for them.

Streamlit loads what draws an element when the first such element arrives: on a server that has just started these are some
hundred small files, each of which waits behind the first studies. The browser has nothing to do while the server imports;
that is when it can fetch them.
"""

from __future__ import annotations

import re
from pathlib import Path

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATIC = Path(streamlit.__file__).parent / "static"
DRAWING = (
    "Html",
    "PageLink",
    "ButtonGroup",
    "Selectbox",
    "Slider",
    "NumberInput",
    "Checkbox",
    "Button",
    "BidiComponent",
    "Progress",
    "ArrowVegaLiteChart",
    "loadVegaEmbed",
    "embed",
    "vega-interpreter",
    "DataFrame",
)
"""What our pages are drawn by, as Streamlit calls its scripts. One that a release has no more is left out."""
_IMPORT = re.compile(r"""(?:from|import)\s*["']\./([\w.-]+\.js)["']""")


def modules(static: Path = STATIC, drawing: tuple[str, ...] = DRAWING) -> tuple[str, ...]:
    """The files in `static/js` of these names and all that they import, but for those that the document names already.

    Cost: reads each once, some hundred files, a few hundredths of a second.
    """
    folder = static / "static" / "js"
    document = (static / "index.html").read_text("utf-8")
    waiting = [path.name for name in drawing for path in folder.glob(f"{name}.*.js")]
    found: dict[str, None] = {}
    while waiting:
        name = waiting.pop(0)
        if name in found or name in document or not (folder / name).is_file():
            continue
        found[name] = None
        waiting += _IMPORT.findall((folder / name).read_text("utf-8"))
    return tuple(found)


class PreloadScripts:
    """Adds a `modulepreload` link for each of `modules` to every HTML document that a browser asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        links = (f'<link rel="modulepreload" crossorigin href="./static/js/{name}">' for name in modules())
        self.links = "".join(links).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its document with the links."""
        if scope["type"] != "http" or scope["method"] != "GET" or "text/html" not in Headers(scope=scope).get("accept", ""):
            await self.app(scope, receive, send)
            return
        # Behind us some documents would be packed, and could not be added to.
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        held: Message | None = None
        body = b""

        async def sent(message: Message) -> None:
            nonlocal held, body
            if message["type"] == "http.response.start" and _is_document(message):
                held = message
            elif held is not None and message["type"] == "http.response.body":
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    whole = body.replace(b"</head>", self.links + b"</head>", 1)
                    headers = MutableHeaders(raw=held["headers"])
                    headers["content-length"] = str(len(whole))
                    # They name the file, which is no longer what goes out.
                    del headers["etag"], headers["last-modified"]
                    await send(held)
                    await send({"type": "http.response.body", "body": whole})
            else:
                await send(message)

        await self.app({**scope, "headers": plain}, receive, sent)


def _is_document(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    whole = start["status"] == 200 and "content-encoding" not in headers
    return whole and headers.get("content-type", "").startswith("text/html")
