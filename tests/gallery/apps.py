"""Socket.IO servers of Python for the doctor's gallery: python-socketio on uvicorn and on werkzeug, with one fault each.

Says {"event":"listening"} when all of them listen; ends when stdin does.
"""
import os
import socket
import sys
import threading
import time

import socketio
import uvicorn
from werkzeug.serving import WSGIRequestHandler, make_server


def asgi(port, **options):
    """An ASGI server; `ws` chooses uvicorn's WebSocket library."""
    ws = options.pop("ws", "auto")
    server = socketio.AsyncServer(async_mode="asgi", **options)

    @server.on("connect", namespace="/catch")
    async def connect(sid, environ, auth=None):
        if "uuId=" not in environ.get("QUERY_STRING", ""):
            raise ConnectionRefusedError("a uuId is needed")

    config = uvicorn.Config(socketio.ASGIApp(server), host="127.0.0.1", port=port, ws=ws, log_level="critical")
    threading.Thread(target=uvicorn.Server(config).run, daemon=True).start()
    return port


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, *_):
        pass


def wsgi(port, websocket=True):
    """Threads on werkzeug. Without a library, or on a web server that it does not know, python-engineio has no WebSocket."""
    server = socketio.Server(async_mode="threading")
    if not websocket:
        server.eio._async = {**server.eio._async, "websocket": None}
    app = make_server("127.0.0.1", port, socketio.WSGIApp(server), threaded=True, request_handler=Quiet)
    threading.Thread(target=app.serve_forever, daemon=True).start()
    return port


ports = [
    asgi(4101),
    asgi(4102),
    asgi(4103, ws="none"),
    asgi(4104, cors_allowed_origins=["https://app.recre.store"]),
    wsgi(4105),
    wsgi(4106, websocket=False),
    wsgi(4107),
]
for port in ports:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
print('{"event":"listening"}', flush=True)
sys.stdin.read()
os._exit(0)
