"""A thousand clients that send a large body a byte at a time, beside some that mean it: the latter get through."""

import json
import socket
import time
import unittest

import frames
import wire
from appliance import FOREIGN, ApiTest, Crowded, eventually

DRIBBLERS = 1_000
# Streams of HTTP/2 that dribble too, on one connection.
STREAMS = 90
# Of a put, base64 and all.
LARGE, MEDIUM = 900_000, 100_000
# Long before the server ends a request for its own time alone.
SECONDS_MAX = 20


def body_of(stream, size):
    record = {"StreamName": stream, "PartitionKey": "k", "Data": ""}
    return json.dumps(record | {"Data": "A" * (size - len(json.dumps(record)) & ~3)}).encode()


def head_of(*fields):
    headers = wire.HEADERS | {"Host": "localhost", "X-Amz-Target": wire.TARGET + "PutRecord"}
    lines = ["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), *fields, "", ""]
    return "\r\n".join(lines).encode()


class Dribbler:
    """Begins a put, and sends the rest of it a byte at a time. Comes again when it is ended; `told` has what it is told then."""

    def __init__(self, server, number, bodies, told):
        self.server, self.number, self.told = server, number, told
        self.large, self.medium = bodies
        self.socket = None

    def begin(self):
        self.socket = socket.create_connection((self.server.host, self.server.port), timeout=SECONDS_MAX)
        large, medium = self.large, self.medium
        sized, chunked = head_of(f"Content-Length: {len(large)}"), head_of("Transfer-Encoding: chunked") + b"%x\r\n" % len(large)
        kind = self.number % 5
        if kind == 4:
            # It shows a good will first.
            self.socket.sendall(head_of(f"Content-Length: {len(medium)}") + medium)
            if b" 200 " not in self.socket.recv(1 << 12):
                return self.close()
        self.wire = (chunked if kind in (1, 3) else sized) + large
        self.at = len(self.wire) - len(large) + (1, 200, 40_000, 40_000, 40_000)[kind]
        self.socket.sendall(self.wire[: self.at])
        self.socket.setblocking(False)

    def go_on(self):
        try:
            if self.socket is None:
                return self.begin()
            self.at += self.socket.send(self.wire[self.at : self.at + 1])
            came = self.socket.recv(1 << 12)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        self.told.append(came)
        self.close()

    def close(self):
        self.socket.close()
        self.socket = None

    def is_there(self):
        return self.socket is not None


@unittest.skipIf(FOREIGN, "a bound of penstock")
class Crowd(Crowded, ApiTest):
    flags = ("--cores", "0")

    def dribble(self, crowd):
        for dribbler in crowd:
            dribbler.go_on()
            if self.stop.is_set():
                return
        time.sleep(0.1)

    def dribble_in_streams(self, body):
        """Begins streams, and sends a byte on each now and then for some seconds; then comes again."""
        client = frames.Connection(self.server.host, self.server.port).agree()
        client.raw.settimeout(0.2)
        open_now = []
        for _ in range(STREAMS):
            stream = client.next
            client.next += 2
            headers = frames.request("PutRecord", client.authority, len(body))
            client.send(frames.frame(frames.HEADERS, frames.END_HEADERS, stream, headers))
            client.send(frames.frame(frames.DATA, 0, stream, body[:6_000]))
            client.streams[stream] = {"status": None, "data": b"", "ended": False, "reset": None}
            open_now.append(stream)
        for at in range(6_000, 6_060):
            for stream in open_now:
                client.send(frames.frame(frames.DATA, 0, stream, body[at : at + 1]))
            try:
                while not self.stop.is_set():
                    client.take()
            except TimeoutError:
                pass
            ended = [stream for stream in open_now if client.streams[stream]["ended"]]
            self.streams_told += [client.streams[stream]["data"] for stream in ended]
            open_now = [stream for stream in open_now if stream not in ended]
        client.close()

    def put_slowly(self, body):
        """Twice as fast as who is ended."""
        with socket.create_connection((self.server.host, self.server.port), timeout=60) as slow:
            slow.sendall(head_of(f"Content-Length: {len(body)}"))
            for at in range(0, len(body), 20_000):
                slow.sendall(body[at : at + 20_000])
                time.sleep(0.1)
            self.slow_answers.append(slow.recv(1 << 12)[:12])

    def test_a_thousand_who_dribble_hold_up_nobody(self):
        stream, others = self.stream(), self.stream()
        body = body_of(stream, LARGE)
        known = self.server.client(timeout=SECONDS_MAX)
        self.assertEqual(known.send("PutRecord", body)[0], 200)
        told, self.slow_answers, self.streams_told = [], [], []
        bodies = body_of(others, LARGE), body_of(others, MEDIUM)
        crowd = [Dribbler(self.server, number, bodies, told) for number in range(DRIBBLERS)]
        for half in range(2):
            self.beside(self.dribble, crowd[half::2])
        there = lambda: sum(map(Dribbler.is_there, crowd)) > DRIBBLERS * 9 // 10
        self.assertTrue(eventually(there, 60), self.errors)
        self.beside(self.dribble_in_streams, bodies[0])
        self.beside(self.put_slowly, body)
        for _ in range(4):
            self.assertEqual(known.send("PutRecord", body)[0], 200)
            # One that comes only now waits for those who have begun before, and is served.
            with self.subTest("a new client"):
                new = self.server.client(timeout=SECONDS_MAX)
                self.assertEqual(new.send("PutRecord", body)[0], 200)
                # Whoever needs no buffer waits for none.
                self.assertEqual(new.put(stream, "k", b"x")["ShardId"], "shardId-000000000000")
                new.close()
        self.assertTrue(eventually(lambda: len(self.slow_answers) >= 2 and self.streams_told, 60), self.errors)
        self.assertEqual(self.errors, [])
        self.assertEqual(set(self.slow_answers), {b"HTTP/1.1 200"}, "who keeps the pace does not notice")
        ended = [came for came in told if came]
        self.assertTrue(ended)
        self.assertEqual({came[:13] for came in ended}, {b"HTTP/1.1 408 "}, "they are told why they end")
        self.assertTrue(all(b"comes so slowly" in text for text in self.streams_told), self.streams_told)
