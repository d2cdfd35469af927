"""A subscription over HTTP/1.1, read byte by byte: chunks, frames of `vnd.amazon.eventstream`, events."""

import json
import socket
import struct
import zlib

import wire


class Ended(Exception):
    """The stream has ended; `error` is the exception frame before it, as (type, text), if there was one."""

    def __init__(self, error=None):
        super().__init__(error)
        self.error = error


class Subscription:
    """`position`: a type, or a whole StartingPosition. An answer that is no stream raises `wire.Refused`."""

    def __init__(self, server, consumer, shard="shardId-000000000000", position="TRIM_HORIZON", timeout=30, receive_buffer=None, tls=None):
        position = {"Type": position} if isinstance(position, str) else position
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((server.host, server.port))
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rb")
        self.error = None
        self.continuation = None
        self.children = None
        try:
            self.ask(consumer, shard, position)
        except BaseException:
            self.close()
            raise

    def ask(self, consumer, shard, position):
        body = json.dumps({"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": position})
        head = wire.HEADERS | {"Host": "localhost", "X-Amz-Target": wire.TARGET + "SubscribeToShard", "Content-Length": len(body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.socket.sendall(f"POST / HTTP/1.1\r\n{lines}\r\n{body}".encode())
        status = int(self.line().split()[1])
        self.headers = {}
        while line := self.line():
            name, value = line.split(": ", 1)
            self.headers[name.lower()] = value
        if status != 200:
            raise wire.Refused(status, self.file.read(int(self.headers["content-length"])))
        assert self.headers["content-type"] == "application/vnd.amazon.eventstream", self.headers
        assert self.headers["transfer-encoding"] == "chunked", self.headers
        headers, payload = self.frame()
        assert (headers[":message-type"], headers[":event-type"], payload) == ("event", "initial-response", b"{}"), headers

    def line(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("the connection has ended")
        assert line.endswith(b"\r\n"), line
        return line[:-2].decode()

    def exactly(self, count):
        data = self.file.read(count)
        if len(data) < count:
            raise ConnectionError("the connection has ended")
        return data

    def frame(self):
        """(headers, payload) of the next frame, which is a chunk of its own; `Ended` behind the last."""
        size = int(self.line(), 16)
        chunk = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        if size == 0:
            raise Ended(self.error)
        total, length, prelude = struct.unpack(">III", chunk[:12])
        assert (total, prelude) == (size, zlib.crc32(chunk[:8])), "the prelude"
        assert struct.unpack(">I", chunk[-4:])[0] == zlib.crc32(chunk[:-4]), "the checksum of the frame"
        headers, at = {}, 12
        while at < 12 + length:
            name = chunk[at + 1 : at + 1 + chunk[at]].decode()
            at += 1 + chunk[at]
            kind, size = struct.unpack(">BH", chunk[at : at + 3])
            assert kind == 7, f"{name} is no string"
            headers[name] = chunk[at + 3 : at + 3 + size].decode()
            at += 3 + size
        return headers, chunk[12 + length : -4]

    def event(self):
        """The next event; `Ended` when none comes any more."""
        headers, payload = self.frame()
        if headers[":message-type"] == "exception":
            self.error = (headers[":exception-type"], json.loads(payload)["message"])
            self.frame()
            raise AssertionError("something follows an exception")
        assert headers[":message-type"] == "event", headers
        assert headers[":event-type"] == "SubscribeToShardEvent", headers
        assert headers[":content-type"] == "application/json", headers
        event = json.loads(payload)
        self.continuation = event.get("ContinuationSequenceNumber")
        self.children = event.get("ChildShards")
        return event

    def records(self, count):
        """The next `count` records, or a few more."""
        found = []
        while len(found) < count:
            found += self.event()["Records"]
        return found

    def rest(self):
        """All records up to the end, and the exception that it came with."""
        found = []
        try:
            while True:
                found += self.event()["Records"]
        except Ended as ended:
            return found, ended.error

    def close(self):
        self.file.close()
        self.socket.close()
