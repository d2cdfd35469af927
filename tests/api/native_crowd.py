"""Native clients that mean no good, all at once, beside some that do: the former get an answer or an end, the latter notice nothing."""

import itertools
import pathlib
import random
import re
import select
import struct
import time
import unittest

from appliance import FOREIGN, Crowded, eventually
from native import OVERDUE, NativeTest
from native_client import (
    ACK, BATCH, GOODBYE, HELLO, NOT_STORED, REFUSED, SUBSCRIBE, WELCOME, Connection, Ended, body_of, crc32c, hello_body, in_blocks, message, rounded,
)
from native_bulk import BULK

DRIBBLERS = 1_000
# Of the server: what fits the place that each of its connections has.
SLOT = 16 << 10
# What they may make it touch beside what it had: places of connections, buffers that have been begun.
GROWTH_MIB_MAX = 64


# What of it is answered: the cut ones go themselves.
ANSWERED = {"noise", "oversized", "flipped", "hello"}


class Ready:
    """A batch of one record, whose checksum is computed once: many of them are sent."""

    def __init__(self, size):
        self.body = body_of([("k", bytes(size))])
        self.crc = crc32c(self.body)

    def for_(self, connection, number=0):
        fields = dict(count=1, shard=connection.wire_shard(0), number=number, producer=connection.welcome.producer, body_crc=self.crc)
        wire = message(BATCH, self.body, **fields)
        return in_blocks(wire) if connection.welcome.features & BULK else wire


SMALL, MEDIUM, LARGE = Ready(100), Ready(100_000), Ready(900_000)


class Dribbler:
    """Begins a batch, and sends the rest of it a byte at a time. Comes again when it is ended; `ended` has what it is told then."""

    def __init__(self, test, stream, number, ended):
        self.test, self.stream, self.number, self.ended = test, stream, number, ended
        self.connection = None

    def begin(self):
        connection = Connection(self.test.server.native)
        try:
            if connection.open(self.stream, wanted=BULK if self.number % 2 else 0).kind != WELCOME:
                return connection.close()
            self.wire = LARGE.for_(connection, number=self.number)
            # Some show a good will first, and send more than fits the connection's own place.
            self.at = (1, 200, SLOT + 100, 40_000)[self.number // 2 % 4]
            connection.socket.sendall(self.wire[: self.at])
        except (Ended, OSError):
            return connection.close()
        connection.socket.setblocking(False)
        self.connection = connection

    def go_on(self):
        if self.connection is None:
            return self.begin()
        try:
            self.at += self.connection.socket.send(self.wire[self.at : self.at + 1])
            came = self.connection.socket.recv(1 << 12)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        self.ended.append(came)
        self.connection.close()
        self.connection = None

    def is_there(self):
        return self.connection is not None


@unittest.skipIf(FOREIGN, "a protocol of penstock")
class Mob(Crowded, NativeTest):
    flags = ("--cores", "0")

    def setUp(self):
        super().setUp()
        self.numbers = itertools.count()

    def resident(self):
        text = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10

    def files(self):
        return len(list(pathlib.Path(f"/proc/{self.server.process.pid}/fd").iterdir()))

    def dribble(self, crowd):
        for dribbler in crowd:
            dribbler.go_on()
        time.sleep(0.02)

    def swamp(self, connection, wire, sent):
        """Sends and never reads, as fast as the kernel takes it; `sent`: how far the wire has gone."""
        try:
            sent[0] = (sent[0] + connection.socket.send(wire[sent[0] :])) % len(wire)
        except BlockingIOError:
            time.sleep(0.05)

    def harass(self, stream, draw, kinds, told):
        """A connection with something wrong in what it sends."""
        with Connection(self.server.native).socket as raw:
            connection = Connection.__new__(Connection)
            connection.socket, connection.held, connection.welcome, connection.map = raw, bytearray(), None, {}
            kind = next(kinds)
            if kind == "noise":
                raw.sendall(b"pf" + draw.randbytes(draw.randrange(70, 9_000)))
            elif connection.open(stream, wanted=draw.choice((0, BULK))).kind != WELCOME:
                return
            else:
                wire = bytearray(MEDIUM.for_(connection, draw.randrange(99)))
                if kind == "cut":
                    return raw.sendall(wire[: draw.randrange(1, len(wire))])
                if kind == "oversized":
                    raw.sendall(in_blocks(message(BATCH, b"", length=1 << 30, stride=1 << 31, count=1)) if connection.welcome.features else
                                message(BATCH, b"", length=1 << 30, stride=(1 << 30) + 64, count=1))
                elif kind == "flipped":
                    header = 64 if connection.welcome.features else 0
                    at = draw.randrange(header * 8, (header + 64 + len(MEDIUM.body)) * 8)
                    wire[at // 8] ^= 1 << at % 8
                    raw.sendall(wire)
                else:
                    raw.sendall(message(HELLO, hello_body(stream)))
            try:
                answer = connection.receive()
            except (Ended, OSError):
                # What it had not read yet came behind the end, so the connection was reset.
                return told.append((kind, None))
            told.append((kind, (answer.kind, answer.error()[1])))

    def put(self, connection, ready):
        """A batch that must be acked, whatever the others do; its number in the shard."""
        number = next(self.numbers)
        connection.socket.sendall(ready.for_(connection, number))
        answer = connection.receive()
        self.assertEqual((answer.kind, answer.number), (ACK, number), answer.body)
        return answer.sequence

    def heard(self, subscriber, count):
        """Numbers of the next batches of a subscription; their checksums would take this client too long."""
        found = []
        while len(found) < count:
            head = subscriber._take(64)
            self.assertEqual(head[3], BATCH)
            subscriber._take(rounded(64 + int.from_bytes(head[8:12], "little")) - 64)
            found.append(int.from_bytes(head[24:32], "little"))
        return found

    def test_a_thousand_who_dribble_and_all_other_trouble_at_once_hold_up_nobody(self):
        stream, others = self.stream(), self.stream()
        good, bulk, subscriber = self.connect(stream), self.connect(stream, wanted=BULK), self.connect(stream)
        self.assertEqual(bulk.welcome.features, BULK)
        # So that the log's memory has been touched, all of it.
        for _ in range(160):
            last = self.put(good, LARGE)
        subscriber.want(SUBSCRIBE, sequence=last + 1, size=(1 << 32) - 1)
        ended, told = [], []
        crowd = [Dribbler(self, others, number, ended) for number in range(DRIBBLERS)]
        for half in range(2):
            self.beside(self.dribble, crowd[half::2])
        there = lambda: sum(map(Dribbler.is_there, crowd)) > DRIBBLERS * 9 // 10
        self.assertTrue(eventually(there, 60))
        for at in range(6):
            deaf = self.connect(others, wanted=BULK if at % 3 == 2 else 0)
            deaf.socket.setblocking(False)
            self.beside(self.swamp, deaf, memoryview(SMALL.for_(deaf) * 50), [0])
        for _ in range(6):
            self.connect(stream).want(SUBSCRIBE, size=(1 << 32) - 1)
        for seed in range(2):
            kinds = itertools.cycle(("noise", "cut", "oversized", "flipped", "hello"))
            self.beside(self.harass, others, random.Random(seed), kinds, told)
        files, resident = self.files(), []
        for _ in range(6):
            for _ in range(5):
                acked = [self.put(*each) for each in ((good, MEDIUM), (bulk, MEDIUM), (good, LARGE), (bulk, SMALL), (good, SMALL))]
                self.api.put(stream, "k", bytes(50_000))
                self.assertEqual(acked, list(range(last + 1, last + 6)), "in order, and nobody else's between them")
                last += 6
                self.assertEqual(self.heard(subscriber, 6), list(range(last - 5, last + 1)))
            resident.append(self.resident() >> 20)
            self.assertEqual(self.errors, [])
        # Who comes only now waits for those who hold what it needs to be ended, and is served.
        self.assertEqual(self.put(self.connect(stream), LARGE), last + 1)
        self.assertLess(self.files(), files + 16)
        self.assertLess(max(resident) - resident[0], GROWTH_MIB_MAX)
        self.assertTrue(eventually(lambda: any(ended) and {kind for kind, _ in told} == ANSWERED, 60))
        goodbyes = [came for came in ended if came]
        overdue = lambda came: (came[3], *struct.unpack("<HB", came[64:67])) == (GOODBYE, OVERDUE, NOT_STORED)
        self.assertTrue(all(map(overdue, goodbyes)), "those who dribble are told why they end")
        answers = {answer for _, answer in told if answer}
        self.assertTrue(answers and answers <= {(REFUSED, NOT_STORED), (GOODBYE, NOT_STORED)}, answers)
        self.assertEqual(self.errors, [])

    def test_a_message_that_is_begun_must_be_ended_in_time_however_little_is_waited_for(self):
        stream = self.stream()
        begun = []
        for wanted in (0, BULK):
            for sent in (1, 63, 64, 200, 30_000):
                connection = self.connect(stream, wanted=wanted)
                connection.socket.sendall(MEDIUM.for_(connection)[:sent])
                begun.append(connection)
        steady = self.connect(stream)
        started = time.monotonic()
        while not select.select([connection.socket for connection in begun], [], [], 0.2)[0]:
            self.assertLess(time.monotonic() - started, 60)
            self.put(steady, SMALL)
        self.assertGreater(time.monotonic() - started, 20, "a slow client has its time")
        for connection in begun:
            self.says_goodbye(connection, OVERDUE, stays=True)
        self.put(steady, SMALL)
