"""A server of files over HTTP with byte ranges, which counts what it sends, and fails as it is told."""

import re
import threading
import zlib
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class WebServer(ThreadingHTTPServer):
    """Serves `files`, by name; `fault` is asked before each answer, and may answer itself."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {}
        self.asked = []  # (name, headers) of each request
        self.sent = 0
        self.fault = lambda handler, content: False
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name, secret=""):
        return f"http://{secret}127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server, name = self.server, self.path.partition("?")[0][1:]
        server.asked.append((self.path[1:], dict(self.headers)))
        content = server.files.get(name)
        if server.fault(self, content):
            return
        if content is None:
            self.answer(404, b"")
        elif (found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))) is None:
            self.answer(200, content, content)
        else:
            start, stop = int(found[1]), min(int(found[2]) + 1, len(content))
            if start >= len(content):
                self.answer(416, b"")
            else:
                self.answer(206, content[start:stop], content, f"bytes {start}-{stop - 1}/{len(content)}")

    def answer(self, code, body, whole=b"", place=None, length=None):
        self.send_response(code)
        if place:
            self.send_header("Content-Range", place)
        self.send_header("ETag", f'"{zlib.crc32(whole):08x}"')
        self.send_header("Last-Modified", formatdate(1e9, usegmt=True))
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            self.server.sent += len(body)


@pytest.fixture
def server():
    with WebServer() as serving:
        yield serving
        serving.shutdown()
