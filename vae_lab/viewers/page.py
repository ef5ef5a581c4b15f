"""A viewer as a page that opens offline: HTML around its data and script."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = (
    *("common.js", "charts.js", "player.js", "flow.js", "padding.js", "sizes.js"),
    *("latent_pictures.js", "latent_numbers.js", "latent_change.js", "latents.js"),
)


def asset(name: str) -> str:
    """Return the text of a file of `viewers/js/`."""
    return (files(__package__) / "js" / name).read_text("utf-8")


def script() -> str:
    """Return the viewers' JavaScript: `mountViewer(root, data)`, and `mountAll()` for the sections of a page."""
    return "\n".join(asset(name) for name in SCRIPTS)


def section_parts(data: Mapping[str, Any], picture: bytes | None = None, text: str = "") -> Iterator[str]:
    """Yield a viewer's place in a page, with its data, in pieces. picture, text: a PNG and its words, without script.

    Any list or text in `data` may be a function that returns it. It is called when its piece is written, so that the
    pictures need not be in memory all at once.
    """
    static = f"<p>{html.escape(text)}</p>"
    if picture:
        png = base64.b64encode(picture).decode()
        static = f'<img src="data:image/png;base64,{png}" alt="{html.escape(text)}">'
    yield '<section class="vae-lab"><script type="application/json">'
    for part in json.JSONEncoder(allow_nan=False, default=lambda function: function()).iterencode(data):
        yield part.replace("<", "\\u003c")  # so that no text can end the script
    yield f"</script><noscript>{static}<p>This needs JavaScript to answer.</p></noscript></section>"


def page_parts(title: str, viewer: Iterable[str], facts: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield a whole page in pieces, around those of one section. facts: name -> text, a table below it."""
    pairs = [map(html.escape, pair) for pair in (facts or {}).items()]
    rows = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in pairs)
    parts = {
        "title": [html.escape(title)],
        "viewer": viewer,
        "facts": [f"<table class='facts'>{rows}</table>" if rows else ""],
        "style": [asset("page.css") + asset("viewer.css")],
        "script": [script()],
    }
    for index, part in enumerate(re.split(r"{{(\w+)}}", asset("page.html"))):  # every second part is a name
        yield from parts[part] if index % 2 else [part]
