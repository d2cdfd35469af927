"""HTTP/2 by hand: frames as a test writes them, well-formed or not, over a plain or a TLS socket."""

import json
import socket
import struct

import wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
ENABLE_PUSH, INITIAL_WINDOW_SIZE = 2, 4
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM = 1, 3, 7, 11
# How a status is written by its place in the static table of HPACK; others are literals, and these tests need none of them.
STATUSES = {0x88: 200, 0x8C: 400, 0x8D: 404, 0x8E: 500}


class Ended(Exception):
    """The server has ended the connection, or the stream; `code` as in its GOAWAY or RST_STREAM."""

    def __init__(self, code=None):
        self.code = code
        super().__init__(f"ended with {code}")


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def integer(prefix, value):
    """`value` in a prefix of 7 bits."""
    if value < 127:
        return bytes([prefix | value])
    rest = value - 127
    out = bytes([prefix | 127])
    while rest >= 128:
        out += bytes([rest % 128 | 128])
        rest //= 128
    return out + bytes([rest])


def literal(name, value, first=0):
    """A header by name and value; 0: not to be indexed, 0x40: to be."""
    name, value = name.encode(), value.encode() if isinstance(value, str) else value
    return bytes([first]) + integer(0, len(name)) + name + integer(0, len(value)) + value


def block(headers):
    return b"".join(literal(name, value) for name, value in headers)


def request(operation, authority, length=None, **more):
    """The headers of a call."""
    headers = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", authority)]
    headers += [("x-amz-target", wire.TARGET + operation), ("content-type", wire.CONTENT_TYPE)]
    if length is not None:
        headers.append(("content-length", str(length)))
    return block(headers + [(name.replace("_", "-"), value) for name, value in more.items()])


class Connection:
    """One connection; `settings` are ours. What comes for streams is kept by stream."""

    def __init__(self, host, port, settings=(), begin=True, timeout=60, tls=None, receive_buffer=None):
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(timeout)
        raw.connect((host, port))
        self.raw = tls.wrap_socket(raw, server_hostname="localhost") if tls else raw
        self.authority = f"localhost:{port}"
        self.bytes = b""
        self.streams = {}
        self.next = 1
        self.settings = None
        self.pongs = 0
        if begin:
            payload = b"".join(struct.pack(">HI", name, value) for name, value in settings)
            self.send(PREFACE + frame(SETTINGS, payload=payload))

    def agree(self):
        """Waits for the server's settings: until then its windows are the default's."""
        while self.settings is None:
            self.take()
        return self

    def close(self):
        self.raw.close()

    def send(self, data):
        self.raw.sendall(data)

    def open(self, operation, body=b"", pieces=1, sized=True, **more):
        """Sends a call whole; gives its stream."""
        stream = self.next
        self.next += 2
        out = frame(HEADERS, END_HEADERS, stream, request(operation, self.authority, len(body) if sized else None, **more))
        size = min(16_384, -(-len(body) // pieces) or 1)
        cuts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        for at, piece in enumerate(cuts):
            out += frame(DATA, END_STREAM if at == len(cuts) - 1 else 0, stream, piece)
        self.streams[stream] = {"status": None, "data": b"", "ended": False, "reset": None}
        self.send(out)
        return stream

    def read_frame(self):
        while len(self.bytes) < 9 or len(self.bytes) < 9 + int.from_bytes(self.bytes[:3], "big"):
            got = self.raw.recv(1 << 16)
            if not got:
                raise Ended()
            self.bytes += got
        length = int.from_bytes(self.bytes[:3], "big")
        kind, flags = self.bytes[3], self.bytes[4]
        stream = int.from_bytes(self.bytes[5:9], "big") & 0x7FFFFFFF
        payload, self.bytes = self.bytes[9 : 9 + length], self.bytes[9 + length :]
        return kind, flags, stream, payload

    def take(self, window=True):
        """Takes in one frame; `window`: gives the server back the room that data has used."""
        kind, flags, stream, payload = self.read_frame()
        state = self.streams.get(stream)
        if kind == SETTINGS and not flags & ACK:
            self.settings = dict(struct.unpack(">HI", payload[at : at + 6]) for at in range(0, len(payload), 6))
            self.send(frame(SETTINGS, ACK))
        elif kind == PING and flags & ACK:
            self.pongs += 1
        elif kind == PING:
            self.send(frame(PING, ACK, payload=payload))
        elif kind == GOAWAY:
            code = int.from_bytes(payload[4:8], "big")
            if code != 0:
                raise Ended(code)
            self.goaway = int.from_bytes(payload[:4], "big")
        elif kind == RST_STREAM and state:
            state["reset"] = int.from_bytes(payload, "big")
        elif kind == HEADERS and state:
            # Changes of the table's size may come first.
            state["status"] = next((STATUSES[byte] for byte in payload[:4] if byte in STATUSES), 0)
        elif kind == DATA and state:
            state["data"] += payload
            if window and payload:
                update = struct.pack(">I", len(payload))
                self.send(frame(WINDOW_UPDATE, stream=0, payload=update) + frame(WINDOW_UPDATE, stream=stream, payload=update))
        if state and kind in (HEADERS, DATA) and flags & END_STREAM:
            state["ended"] = True

    def answer(self, stream, window=True):
        """(status, body) of a stream, when it has ended."""
        state = self.streams[stream]
        while not state["ended"]:
            if state["reset"] is not None:
                raise Ended(state["reset"])
            self.take(window)
        return state["status"], state["data"]

    def call(self, operation, **members):
        body = json.dumps(members, default=wire.text_of).encode()
        status, answer = self.answer(self.open(operation, body))
        if status != 200:
            raise wire.Refused(status, answer)
        return json.loads(answer) if answer else {}

    def until_it_ends(self):
        """The code with which the server ends the connection; None: without one."""
        try:
            while True:
                self.take()
        except Ended as ended:
            return ended.code
        except (ConnectionError, BrokenPipeError):
            return None
