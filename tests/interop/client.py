"""The basics with python-socketio: `client.py <url> <ca.pem> <transport>`; ends with 0 when everything held."""

import hashlib
import os
import random
import socket
import sys
import threading

url, ca, transport = sys.argv[1:]

# Every name is this machine.
lookup = socket.getaddrinfo
socket.getaddrinfo = lambda _host, *rest, **more: lookup("127.0.0.1", *rest, **more)
os.environ["REQUESTS_CA_BUNDLE"] = ca

import engineio.payload  # noqa: E402
import socketio  # noqa: E402

# Node's server puts more packets into one poll than this client takes by default.
engineio.payload.Payload.max_decode_packets = 1000

# This client names an Origin as browsers do. The tests' port is not the public one: it says what it would say there.
origin = url.rsplit(":", 1)[0]
client = socketio.Client(
    reconnection=False,
    websocket_extra_options={"sslopt": {"ca_certs": ca}, "origin": origin},
)
heard, said = [], threading.Event()


@client.on("said")
def on_said(data):
    heard.append(data)
    if data == "last":
        said.set()


@client.on("question")
def on_question(_question):
    return 42


@client.on("caught", namespace="/catch")
def on_caught(_data):
    pass


client.connect(f"{url}?uuId=snake", transports=[transport], namespaces=["/", "/catch"], wait_timeout=20)
assert client.transport() == transport, client.transport()
assert client.call("echo", {"text": "안녕"}, timeout=20) == {"text": "안녕"}
assert client.call("echo", "caught", namespace="/catch", timeout=20) == "caught"
assert client.call("ask me", timeout=20) == 42
for size in (1, 126, 65_536, 1 << 20):
    data = random.randbytes(size)
    back = client.call("echo", data, timeout=20)
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest(), size
for n in range(100):
    client.emit("say", n)
client.emit("say", "last")
assert said.wait(20)
assert heard == [*range(100), "last"], heard
client.disconnect()
