"""A small Hub on loopback: repositories are folders, served by the routes `resolve` (files) and `tree` (names)."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROUTE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/[^/?]+/?(?P<folder>[^?]*)(?:\?.*)?")


class Hub(ThreadingHTTPServer):
    """Serves `root`/owner/name; breaks off the first `cuts` transfers of a weight file half-way.

    lists: whether names are served, too.
    """

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.cuts, self.sent, self.lists = root, 0, 0, True
        self.requests: list[tuple[str, str]] = []  # method, path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.server.requests.append((self.command, self.path))
        tree = TREE.fullmatch(self.path)
        if tree is not None and self.server.lists and (self.server.root / tree["repo"]).is_dir():
            return self._tree(self.server.root / tree["repo"], tree["folder"])
        match = ROUTE.fullmatch(self.path)
        if match is None or not (self.server.root / match["repo"]).is_dir():
            return self._error(404, "RepoNotFound")
        file = self.server.root / match["repo"] / match["file"]
        if not file.is_file():
            return self._error(404, "EntryNotFound")
        content = file.read_bytes()
        start, stop = 0, len(content)
        if ranged := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, stop = int(ranged[1]), min(stop, int(ranged[2] or stop) + 1)
        self.send_response(206 if ranged else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return None
        rest = content[start:stop]
        if self.server.cuts and file.suffix == ".safetensors":
            self.server.cuts -= 1
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return None
        self.wfile.write(rest)
        self.server.sent += len(rest)
        return None

    def _tree(self, repository: Path, folder: str) -> None:
        files = [file for file in (repository / folder).iterdir() if file.is_file()]
        entries = [dict(type="file", oid="0", size=0, path=str(file.relative_to(repository))) for file in files]
        content = json.dumps(entries).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serve(root: Path) -> Iterator[Hub]:
    hub = Hub(root)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
