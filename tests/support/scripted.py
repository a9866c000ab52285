"""An MCP server of a few lines, for tests that need one that does a single thing in its own way.

A test appends its own code: `tools` is what is listed, and each function below may be replaced. `serve()` runs last.
"""
import json
import os
import sys
import time


def send(message):
    print(json.dumps(message), flush=True)


def result(id, value):
    send({"jsonrpc": "2.0", "id": id, "result": value})


def error(id, code, text):
    send({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})


def text(id, words):
    result(id, {"content": [{"type": "text", "text": words}]})


def note(file, line):
    """Writes a line into a file of the test's folder."""
    with open(file, "a") as out:
        out.write(line + "\n")


tools = [{"name": "echo", "inputSchema": {"type": "object"}}]


def initialize(id, params):
    abilities = {"tools": {"listChanged": True}}
    info = {"name": "scripted", "version": "1"}
    result(id, {"protocolVersion": "2025-06-18", "capabilities": abilities, "serverInfo": info})


def call(id, params):
    """`tools/call`; `id` is None if the message has none."""
    text(id, "called " + params["name"])


def other(message):
    """Every message that is not answered below."""
    if message.get("id") is not None and "method" in message:
        error(message["id"], -32601, "Method not found")


def hear(message):
    id, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if method == "initialize":
        initialize(id, params)
    elif method == "tools/list":
        result(id, {"tools": tools})
    elif method == "tools/call":
        call(id, params)
    elif method == "ping":
        result(id, {})
    else:
        other(message)


def serve():
    for line in sys.stdin:
        hear(json.loads(line))
