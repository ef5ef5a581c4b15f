"""A viewer as a page: HTML around its data and script, which opens offline."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = (
    *("common.js", "charts.js", "player.js", "padding.js", "sizes.js"),
    *("latent_pictures.js", "latent_numbers.js", "latent_change.js", "latents.js"),
)


def asset(name: str) -> str:
    """A file of `viewers/js/`, as text."""
    return (files(__package__) / "js" / name).read_text("utf-8")


def script() -> str:
    """The viewers' JavaScript: `mountViewer(root, data)`, and `mountAll()` for the sections of a page."""
    return "\n".join(asset(name) for name in SCRIPTS)


def section(data: Mapping[str, Any], picture: bytes | None = None, text: str = "") -> str:
    """A viewer's place in a page, with its data in it. picture, text: a PNG and its words where there is no script."""
    return "".join(section_parts(data, picture, text))


def section_parts(data: Mapping[str, Any], picture: bytes | None = None, text: str = "") -> Iterator[str]:
    """`section` piece by piece. In place of any list or text in `data` there may be a function that gives it: it is
    called when the piece is asked for, so that pictures need not all be in memory.
    """
    static = f"<p>{html.escape(text)}</p>"
    if picture:
        png = base64.b64encode(picture).decode()
        static = f'<img src="data:image/png;base64,{png}" alt="{html.escape(text)}">'
    yield '<section class="vae-lab"><script type="application/json">'
    for part in json.JSONEncoder(allow_nan=False, default=lambda function: function()).iterencode(data):
        yield part.replace("<", "\\u003c")  # nothing in it can end the script
    yield f"</script><noscript>{static}<p>This needs JavaScript to answer.</p></noscript></section>"


def page(title: str, viewer: str, facts: Mapping[str, str] | None = None) -> str:
    """A whole page around one `section`; facts: name -> text, a table under it."""
    return "".join(page_parts(title, [viewer], facts))


def page_parts(title: str, viewer: Iterable[str], facts: Mapping[str, str] | None = None) -> Iterator[str]:
    """`page` piece by piece, around the pieces of a section."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in (facts or {}).items()
    )
    parts = {
        "title": [html.escape(title)],
        "viewer": viewer,
        "facts": [f"<table class='facts'>{rows}</table>" if rows else ""],
        "style": [asset("page.css") + asset("viewer.css")],
        "script": [script()],
    }
    for index, part in enumerate(re.split(r"{{(\w+)}}", asset("page.html"))):  # names are the odd ones
        yield from parts[part] if index % 2 else [part]
