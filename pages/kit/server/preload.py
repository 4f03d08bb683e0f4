"""Links in the HTML document to the scripts that every page needs, so that a browser fetches them before a session begins.

Streamlit's browser part fetches the scripts for an element when the first such element arrives: about a hundred small files. On a
server that has just started each of them waits behind the first studies. With the links the browser fetches them earlier, while
the server still imports.
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
"""The elements of our pages, as Streamlit names their scripts. A name that a release does not have is left out."""
_IMPORT = re.compile(r"""(?:from|import)\s*["']\./([\w.-]+\.js)["']""")


def modules(static: Path = STATIC, drawing: tuple[str, ...] = DRAWING) -> tuple[str, ...]:
    """The files in `static/js` with these names and all that they import, without those that the document links to already.

    Cost: reads about a hundred files once, a few hundredths of a second.
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
    """Middleware that adds a `modulepreload` link for each of `modules` to every HTML document that a browser asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        links = (f'<link rel="modulepreload" crossorigin href="./static/js/{name}">' for name in modules())
        self.links = "".join(links).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; a document is sent with the links."""
        if scope["type"] != "http" or scope["method"] != "GET" or "text/html" not in Headers(scope=scope).get("accept", ""):
            await self.app(scope, receive, send)
            return
        # The app would compress some documents, and a compressed one cannot be changed here.
        uncompressed = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        start: Message | None = None
        body = b""

        async def send_with_links(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_document(message):
                start = message
            elif start is not None and message["type"] == "http.response.body":
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    document = body.replace(b"</head>", self.links + b"</head>", 1)
                    headers = MutableHeaders(raw=start["headers"])
                    headers["content-length"] = str(len(document))
                    # These describe the file, and the document is no longer equal to it.
                    del headers["etag"], headers["last-modified"]
                    await send(start)
                    await send({"type": "http.response.body", "body": document})
            else:
                await send(message)

        await self.app({**scope, "headers": uncompressed}, receive, send_with_links)


def _is_document(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    plain = start["status"] == 200 and "content-encoding" not in headers
    return plain and headers.get("content-type", "").startswith("text/html")
