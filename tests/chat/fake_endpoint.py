"""A small server in place of a bigger model's endpoint."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

ANSWER = "Four, said the bigger one."
GOOD = json.dumps({"choices": [{"message": {"role": "assistant", "content": ANSWER}}]}).encode()


class Bigger:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, GOOD, {"Content-Type": "application/json"}
        self.asked: list[SimpleNamespace] = []
        bigger = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                bigger.asked.append(SimpleNamespace(path=self.path, body=body, headers=dict(self.headers)))
                self.send_response(bigger.status)
                for name, value in bigger.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(bigger.body)

            do_GET = do_POST

            def log_message(self, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
