"""python-socketio's client beside the doctor. Reads one JSON object a line, says one a line, as clients.mjs does.

  {"id": 1, "url": "https://…", "path": "/socket.io", "namespace": "/", "fields": {…}, "transports": ["polling"],
   "websocket": true}
  {"event": "result", "id": 1, "ok": false, "why": "…"}

A client succeeds where it connects and gets its WebSocket, unless it shall only poll.
"""
import json
import sys
import threading

import requests
import socketio

ROOTS = sys.argv[1]
# The machine may be busy with other tests.
CONNECT_S = 20
UPGRADE_S = 20


def visit(request):
    """Whether it connects, and why not."""
    session = requests.Session()
    session.verify = ROOTS
    # What is said of a server is not said of a proxy of this machine.
    session.trust_env = False
    client = socketio.Client(
        reconnection=False,
        request_timeout=CONNECT_S,
        http_session=session,
        websocket_extra_options={"sslopt": {"ca_certs": ROOTS}, "timeout": UPGRADE_S},
    )
    try:
        client.connect(
            request["url"],
            headers=request["fields"],
            transports=request["transports"],
            namespaces=[request["namespace"]],
            socketio_path=request["path"],
            wait_timeout=CONNECT_S,
        )
        transport = client.transport()
        if request["websocket"] and transport != "websocket":
            return False, f"it stays on {transport}"
        return True, transport
    except Exception as error:  # whatever a client may say
        return False, f"{type(error).__name__}: {error}"
    finally:
        client.disconnect()


def answer(request):
    ok, why = visit(request)
    print(json.dumps({"event": "result", "id": request["id"], "ok": ok, "why": why[:300]}), flush=True)


print('{"event":"ready"}', flush=True)
for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
