"""Pages in a real Chromium."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Milliseconds from a key to the end of the frame in which its result is painted
STEP = """(key) => new Promise((done) => {
  const begin = performance.now();
  document.querySelector('.vae-lab').dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  requestAnimationFrame(() => { const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now() - begin); channel.port2.postMessage(0); });
})"""
READY = """() => [...document.querySelectorAll('.vae-lab')].every((viewer) => viewer.dataset.ready === 'true')"""


@contextmanager
def offline_pages(browser) -> Iterator[Callable]:
    """Yield a function that opens a file offline, in a context of its own, and waits until all its viewers are ready.

    Errors in a page's scripts, errors on its console and requests to the network fail the test at the end.
    """
    problems, contexts = [], []

    def open_page(path: Path, scheme: str = "light", width: int = 1280):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on(
            "request", lambda asked: asked.url.startswith(("file:", "data:", "blob:")) or problems.append(asked.url)
        )
        page.goto(path.as_uri())
        page.wait_for_function(READY)
        return page

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
    assert problems == []
