"""The document names the scripts of our pages, so that a browser has them before the first session asks for them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from pages.kit.server.preload import DRAWING, STATIC, PreloadScripts, modules

DOCUMENT = b"<html><head><title>x</title></head><body></body></html>"


def answered(headers, *chunks, method="GET", status=200, accept=b"text/html,*/*;q=0.8"):
    """What goes out when the app behind answers with these headers and pieces of a body, and whether it might have packed it."""
    out, asked = [], []

    async def app(scope, receive, send):
        asked.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for chunk in chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": chunks[-1]})

    async def send(message):
        out.append(message)

    scope = {"type": "http", "method": method, "headers": [(b"accept", accept), (b"accept-encoding", b"gzip")]}
    # In a thread of its own: where browser tests ran before, this one has a loop that runs already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, PreloadScripts(app)(scope, None, send)).result()
    return dict(out[0]["headers"]), b"".join(message["body"] for message in out[1:]), b"accept-encoding" in asked[0]


def test_streamlit_still_has_every_script_that_is_named():
    folder = STATIC / "static" / "js"
    assert [name for name in DRAWING if not list(folder.glob(f"{name}.*.js"))] == []
    found = modules()
    assert len(found) == len(set(found)) > len(DRAWING)
    assert all((folder / name).is_file() for name in found)


def test_what_a_script_imports_comes_with_it_and_what_the_document_names_does_not_come_again(tmp_path):
    folder = tmp_path / "static" / "js"
    folder.mkdir(parents=True)
    (tmp_path / "index.html").write_text('<link href="./static/js/known.1.js">')
    (folder / "Html.1.js").write_text('import{a as b}from"./deep.2.js";import"./known.1.js";import("./later.3.js")')
    (folder / "deep.2.js").write_text('export*from"./Html.1.js";import c from"./gone.4.js"')
    for name in ("known.1.js", "later.3.js"):
        (folder / name).write_text("")
    assert modules(tmp_path, ("Html", "Unheard")) == ("Html.1.js", "deep.2.js")


def test_a_document_gets_the_links_and_its_new_length():
    headers, body, packed = answered(
        [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"55"), (b"etag", b"old")],
        DOCUMENT[:20],
        DOCUMENT[20:],
    )
    assert body.count(b'<link rel="modulepreload"') == len(modules())
    assert body.index(b"modulepreload") < body.index(b"</head>")
    assert body.endswith(b"</head><body></body></html>")
    assert headers[b"content-length"] == str(len(body)).encode()
    assert b"etag" not in headers
    assert not packed


@pytest.mark.parametrize(
    ("headers", "more", "packed"),
    [
        ([(b"content-type", b"text/javascript")], {"accept": b"*/*"}, True),
        ([(b"content-type", b"text/html")], {"method": "HEAD"}, True),
        ([(b"content-type", b"text/plain")], {}, False),
        ([(b"content-type", b"text/html"), (b"content-encoding", b"gzip")], {}, False),
        ([(b"content-type", b"text/html")], {"status": 404}, False),
    ],
)
def test_everything_else_passes_as_it_is(headers, more, packed):
    assert answered(headers, DOCUMENT[:9], DOCUMENT[9:], **more) == (dict(headers), DOCUMENT, packed)
