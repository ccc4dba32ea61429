"""A hub on loopback with one model, which answers as the real one does."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """A hub of one model; close it with `stop`.

    Without a folder of files it has a config.json, of which nobody wants more than the headers. It refuses tokens but
    those that it accepts, of which a gated model wants one. ``refusal``: (status, headers) for every request.
    """

    daemon_threads = True

    def __init__(self, model: str, *accepts: str, folder: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.model, self.folder, self.accepts = model, folder, accepts
        self.gated, self.refusal, self.asked = False, None, []
        threading.Thread(target=lambda: self.serve_forever(poll_interval=0.02), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        path, hub = urlsplit(self.path).path, self.server
        hub.asked.append(path)
        if hub.refusal is not None:
            return self.reply(hub.refusal[0], **hub.refusal[1])
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = token in hub.accepts
        if token and not known:
            return self.reply(401, **{"X-Error-Message": "Invalid credentials in Authorization header"})
        if path == "/api/whoami-v2":
            return self.reply(200 if known else 401, {"name": "somebody"})
        if f"/{hub.model}/" not in f"{path}/":
            return self.reply(404, **{"X-Error-Code": "RepoNotFound"})
        if hub.gated and not known:
            return self.reply(401, **{"X-Error-Code": "GatedRepo"})
        files = {file.name: file for file in hub.folder.iterdir()} if hub.folder else {"config.json": None}
        if path.startswith("/api/") and "/tree/" in path:
            listed = [{"type": "file", "path": n, "size": f.stat().st_size, "oid": n} for n, f in files.items()]
            return self.reply(200, listed)
        if path.startswith("/api/"):
            return self.reply(200, {"id": hub.model, "sha": COMMIT, "siblings": []})
        name = path.split("/")[-1]
        if name not in files:
            return self.reply(404, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        body = files[name].read_bytes() if files[name] else b""
        return self.reply(200, body, **{"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'})

    do_HEAD = do_GET

    def reply(self, status: int, body: Any = b"", **headers: str) -> None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass
