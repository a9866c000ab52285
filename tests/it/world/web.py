"""An MCP server over HTTP of a few lines, for tests that need one that does a single thing in its own way.

A test appends its own code: each function below may be replaced. `serve()` runs last. Every request is told as a line of
JSON on the output, the port in the first one.
"""
import gzip
import json
import socket
import ssl
import sys
import threading
import time
import uuid
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sessions = set()
lock = threading.Lock()
arguments = sys.argv[1:]


def tell(**line):
    with lock:
        print(json.dumps(line), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, body=None, **headers):
        if body is None:
            data = b""
        elif isinstance(body, bytes):
            data = body
        else:
            headers.setdefault("Content_Type", "application/json")
            data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def result(self, m, value, **headers):
        self.reply(200, {"jsonrpc": "2.0", "id": m["id"], "result": value}, **headers)

    def error(self, status, text, id=None, code=-32000):
        self.reply(status, {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})

    def stream(self, **headers):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def event(self, data, name="message"):
        self.wfile.write(b"event: " + name.encode() + b"\ndata: " + data + b"\n\n")
        self.wfile.flush()

    @property
    def session(self):
        return self.headers.get("Mcp-Session-Id")

    def told(self, verb, message=None):
        headers = {name.lower(): value for name, value in self.headers.items()}
        tell(verb=verb, path=self.path, message=message, session=self.session, headers=headers)

    def do_GET(self):
        self.told("GET")
        get(self)

    def do_DELETE(self):
        self.told("DELETE")
        delete(self)

    def do_POST(self):
        m = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told("POST", m)
        post(self, m)

    def log_message(self, *args):
        pass


def get(h):
    h.reply(405)


def delete(h):
    sessions.discard(h.session)
    h.reply(200)


def unknown(h, m):
    """A request that names no session, or one that is not known."""
    h.error(404, "Session not found")


def initialize(h, m):
    sessions.add(new := uuid.uuid4().hex)
    value = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "web", "version": "1"}}
    h.result(m, value, Mcp_Session_Id=new)


def tools():
    return [{"name": "echo", "inputSchema": {"type": "object"}}]


def call(h, m):
    h.result(m, {"content": [{"type": "text", "text": "ok"}]})


def post(h, m):
    method = m.get("method")
    if method == "initialize":
        initialize(h, m)
    elif h.session not in sessions:
        unknown(h, m)
    elif m.get("id") is None or method is None:
        h.reply(202)
    elif method == "tools/list":
        h.result(m, {"tools": tools()})
    elif method == "tools/call":
        call(h, m)
    elif method == "ping":
        h.result(m, {})
    else:
        h.error(200, "Method not found", m["id"], -32601)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, address):
        pass


def serve(tls=None):
    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    tell(port=server.server_address[1])
    server.serve_forever()
