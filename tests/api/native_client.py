"""A client of the native protocol, written from src/native/PROTOCOL.md and the standard library alone. It retries nothing."""

import hashlib
import hmac
import socket
import struct

HEADER = struct.Struct("<2sBBIIIQQQQIII")
BATCH, HELLO, CHALLENGE, PROOF, WELCOME, MAP, SHARDS, ACK, REFUSED, GOODBYE, PING, PONG = 1, *range(64, 75)
READ, DONE, SUBSCRIBE, CREDIT, UNSUBSCRIBE = range(80, 85)
NOT_STORED, STORED, UNKNOWN = 1, 2, 3
LATEST = (1 << 64) - 1


def _table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


TABLE = tuple(_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def rounded(size):
    return (size + 63) // 64 * 64


def message(kind, body=b"", count=0, shard=0, sequence=0, arrival=0, producer=0, number=0, incarnation=0, **forged):
    """The bytes of a message; `forged`: fields that are not what they should be."""
    size = rounded(64 + len(body))
    stride, length, version = forged.get("stride", size), forged.get("length", len(body)), forged.get("version", 1)
    body_crc = forged.get("body_crc", crc32c(body) if "body_crc" not in forged else None)
    head = HEADER.pack(b"pf", version, kind, stride, length, count, shard, sequence, arrival, producer, number, incarnation, body_crc)
    head += struct.pack("<I", forged.get("header_crc", crc32c(head)))
    return head + body + bytes(size - 64 - len(body))


def body_of(records):
    """`records`: (key or None, data)."""
    payload, index = bytearray(), bytearray()
    for key, data in records:
        encoded = b"" if key is None else key.encode()
        index += struct.pack("<IIHHI", len(payload), len(data), len(encoded), 1 if key is None else 0, 0)
        payload += encoded + data
    return bytes(payload + index + struct.pack("<iI", -len(index), len(records)))


def records_of(message):
    """(key or None, data) of each record of a batch that has been read."""
    count, body = message.count, message.body
    assert struct.unpack("<iI", body[-8:]) == (-16 * count, count), body[-8:]
    found = []
    for at in range(len(body) - 8 - 16 * count, len(body) - 8, 16):
        position, data, key, flags, _ = struct.unpack("<IIHHI", body[at : at + 16])
        found.append((None if flags & 1 else body[position : position + key].decode(), body[position + key : position + key + data]))
    return found


def hello_body(stream, key_id="", token="", versions=(1, 1), wanted=0):
    texts = [text.encode() for text in (stream, key_id, token)]
    return struct.pack("<HHIHHHH", *versions, wanted, *map(len, texts), 0) + b"".join(texts)


class Ended(Exception):
    """The connection is over."""


class Message:
    def __init__(self, head, body):
        fields = HEADER.unpack(head[:60])
        assert fields[0] == b"pf" and fields[1] == 1, head
        assert struct.unpack("<I", head[60:]) == (crc32c(head[:60]),), "the header's checksum"
        assert fields[-1] == crc32c(body), "the body's checksum"
        self.kind, self.body = fields[2], body
        self.count, self.shard, self.sequence, self.arrival, self.producer, self.number = fields[5:11]

    def error(self):
        """(code, outcome, wait, text) of Refused and Goodbye."""
        code, outcome, zero, wait = struct.unpack("<HBBI", self.body[:8])
        assert zero == 0
        return code, outcome, wait, self.body[8:].decode()


    def done(self):
        """(code, where to go on, how many ms behind) of a Done."""
        code, *zeros, behind = struct.unpack("<HHIQ", self.body)
        assert zeros == [0, 0]
        return code, self.sequence, behind


class Welcome:
    def __init__(self, message):
        fields = struct.unpack("<HHIIIIIIIHHI", message.body)
        (self.version, _, self.features, self.largest, self.unanswered, self.unanswered_bytes, self.records, self.record, self.idle,
         self.worker, self.workers, self.stream) = fields
        self.producer = message.producer


class Line:
    def __init__(self, body):
        self.shard, self.state, _, self.worker, *parents = struct.unpack("<IBBHII", body[:16])
        self.parents = [parent for parent in parents if parent != 0xFFFFFFFF]
        self.first, self.last = int.from_bytes(body[16:32], "little"), int.from_bytes(body[32:48], "little")


class Connection:
    """One connection. Its socket sends what it is told, so tests may send anything."""

    def __init__(self, port, host="127.0.0.1", timeout=60):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = bytearray()
        self.welcome, self.map = None, {}

    def close(self):
        self.socket.close()

    def send(self, kind, body=b"", **fields):
        self.socket.sendall(message(kind, body, **fields))

    def _take(self, size):
        while len(self.held) < size:
            try:
                got = self.socket.recv(1 << 16)
            except ConnectionError as error:
                raise Ended(str(error)) from error
            if not got:
                raise Ended(f"after {len(self.held)} of {size} bytes")
            self.held += got
        taken, self.held = bytes(self.held[:size]), self.held[size:]
        return taken

    def receive(self):
        head = self._take(64)
        length = struct.unpack("<I", head[8:12])[0]
        rest = self._take(rounded(64 + length) - 64)
        return Message(head, rest[:length])

    def open(self, stream, key=None, producer=0, **hello):
        """Says Hello, proves `key` (id, secret), and learns the map. The answer is the Welcome, or the Goodbye."""
        if key:
            hello["key_id"] = key[0]
        sent = message(HELLO, hello_body(stream, **hello), producer=producer)
        self.socket.sendall(sent)
        answer = self.receive()
        if answer.kind == CHALLENGE:
            length = struct.unpack("<I", sent[8:12])[0]
            said = b"penstock native 1\n" + answer.body + sent[: 64 + length]
            self.send(PROOF, hmac.new(key[1].encode(), said, hashlib.sha256).digest())
            answer = self.receive()
        if answer.kind == WELCOME:
            self.welcome = Welcome(answer)
            self.learn()
        return answer

    def learn(self):
        """Takes the lines of the map that the server is sending."""
        while True:
            lines = self.receive()
            assert lines.kind == SHARDS and len(lines.body) == 48 * lines.count, lines.kind
            for at in range(0, len(lines.body), 48):
                line = Line(lines.body[at : at + 48])
                self.map[line.shard] = line
            if lines.number == 0:
                return

    def ask_map(self):
        self.send(MAP)
        self.learn()

    def wire_shard(self, shard):
        return self.welcome.stream << 32 | shard

    def batch(self, records, shard=0, number=0, **forged):
        """The bytes of a batch for this connection's stream."""
        fields = {"producer": self.welcome.producer, **forged}
        return message(BATCH, body_of(records), count=len(records), shard=self.wire_shard(shard), number=number, **fields)

    def put(self, records, shard=0, number=0):
        """Sends a batch, and gives its answer."""
        self.socket.sendall(self.batch(records, shard, number))
        return self.receive()

    def want(self, kind, shard=0, sequence=0, size=1 << 20, floor=0, count=0):
        """Sends a Read or a Subscribe."""
        self.send(kind, struct.pack("<IIQ", size, 0, floor), shard=self.wire_shard(shard), sequence=sequence, count=count)

    def credit(self, size, shard=0):
        self.send(CREDIT, struct.pack("<II", size, 0), shard=self.wire_shard(shard))

    def unsubscribe(self, shard=0):
        self.send(UNSUBSCRIBE, shard=self.wire_shard(shard))

    def read(self, shard=0, sequence=0, **wanted):
        """The batches of a Read, and its Done."""
        self.want(READ, shard, sequence, **wanted)
        return self.until_done()

    def until_done(self):
        batches = []
        while (came := self.receive()).kind == BATCH:
            batches.append(came)
        assert came.kind == DONE, came.kind
        return batches, came


def in_blocks(message, spare=0):
    """The message as a bulk connection takes it: 64 zeros, then whole blocks of 4,096 bytes; `spare` more of them than it needs."""
    length = struct.unpack("<I", message[8:12])[0]
    size = (128 + length + 4095) // 4096 * 4096 + spare * 4096
    head = message[:4] + struct.pack("<I", size) + message[8:60]
    head += struct.pack("<I", crc32c(head))
    return bytes(64) + head + message[64 : 64 + length] + bytes(size - 128 - length)
