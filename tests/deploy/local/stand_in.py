"""A container of somebody else: it answers what it got, and misbehaves on demand (`make` of its body's JSON)."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOADED: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.answer(500 if os.environ.get("NEVER_HEALTHY") else 200, b"")

    def do_DELETE(self) -> None:
        known = self.path.rpartition("/")[2] in LOADED
        LOADED.discard(self.path.rpartition("/")[2])
        self.answer(200 if known else 404, b"")

    def load(self, name: str) -> None:
        """As many models as ROOM says are in memory at a time."""
        status = 409 if name in LOADED else 507 if len(LOADED) >= int(os.environ["ROOM"]) else 200
        if status == 200:
            LOADED.add(name)
        self.answer(status, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/models":
            self.load(json.loads(body)["model_name"])
            return
        if self.path.startswith("/models/") and self.path.split("/")[2] not in LOADED:
            self.answer(404, b"")
            return
        try:
            wanted = json.loads(body).get("make", {})
        except (ValueError, AttributeError):
            wanted = {}
        if wanted.get("die"):
            print("dying on demand", file=sys.stderr, flush=True)
            os._exit(3)
        time.sleep(wanted.get("seconds", 0))
        if wanted.get("parts"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            for number in range(wanted["parts"]):
                self.wfile.write(b"9\r\ndata: %d\n\n\r\n" % number)
                time.sleep(0.05)
            if not wanted.get("breaks"):
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True
            return
        if "text" in wanted:  # as the next container of a chain shall get it
            self.answer(200, wanted["text"].encode())
            return
        told = {
            "version": os.environ.get("VERSION"),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "environment": {k: v for k, v in os.environ.items() if k.startswith(("SAGEMAKER_", "SERVE_", "MY_"))},
            "body": body.decode(errors="replace"),
        }
        status = 500 if os.environ.get("BROKEN") else wanted.get("status", 200)
        self.answer(status, json.dumps(told).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header(
            "X-Amzn-SageMaker-Custom-Attributes", self.headers.get("X-Amzn-SageMaker-Custom-Attributes", "")
        )
        self.send_header("X-Own", "not passed on")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    if os.environ.get("ENDS"):
        sys.exit("this container ends at once")
    if os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
