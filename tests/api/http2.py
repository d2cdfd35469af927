"""HTTP/2 on the plain port: requests as streams, flow control, and what a client must not be able to do."""

import json
import pathlib
import re
import struct
import unittest

import frames
from appliance import FOREIGN, ApiTest, eventually
from frames import Connection, Ended, frame

# What a client may make the server hold, beside what it holds anyway: far more than it may, far less than what is sent.
HELD_MAX = 64 << 20


def put(data, key="k", **members):
    return json.dumps({"PartitionKey": key, "Data": data, **members}).encode()


@unittest.skipIf(FOREIGN, "what penstock alone does")
class Http2(ApiTest):
    own = True

    def connection(self, **options):
        made = Connection(self.server.host, self.server.port, **options)
        self.addCleanup(made.close)
        return made

    def resident(self):
        """Bytes of memory of the server."""
        text = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10

    def serves(self):
        """Another client is undisturbed."""
        other = self.connection()
        self.assertIn("StreamNames", other.call("ListStreams"))
        other.close()

    def streams_now(self):
        metrics = self.api.get("/metrics")[1]
        workers = re.findall(r"^penstock_http2_streams_now\S* (\d+)", metrics, re.M)
        self.assertTrue(workers)
        return sum(map(int, workers))


class Requests(Http2):
    def test_a_stream_is_a_request(self):
        client = self.connection()
        name = self.stream()
        first = client.call("PutRecord", StreamName=name, PartitionKey="k", Data=b"one")
        second = client.call("PutRecord", StreamName=name, PartitionKey="k", Data=b"two")
        self.assertLess(int(first["SequenceNumber"]), int(second["SequenceNumber"]))
        with self.assertRaises(frames.wire.Refused) as caught:
            client.call("DescribeStream", StreamName="none")
        self.assertEqual((caught.exception.status, caught.exception.type), (400, "ResourceNotFoundException"))
        self.assertEqual([frames.wire.data_of(r) for r in self.api.read_all(name)], [b"one", b"two"])

    def test_the_preface_may_come_in_pieces(self):
        client = self.connection(begin=False)
        for byte in frames.PREFACE + frame(frames.SETTINGS):
            client.send(bytes([byte]))
        self.assertIn("StreamNames", client.call("ListStreams"))

    def test_a_body_may_come_in_pieces_and_without_its_length(self):
        client = self.connection().agree()
        name = self.stream()
        data = "QUJD" * 90_000
        for pieces in (1, 7, 300):
            for sized in (True, False):
                stream = client.open("PutRecord", put(data, StreamName=name), pieces, sized)
                self.assertEqual(client.answer(stream)[0], 200, (pieces, sized))
        self.assertEqual({len(frames.wire.data_of(r)) for r in self.api.read_all(name)}, {270_000})

    def test_many_requests_at_once(self):
        client = self.connection()
        name = self.stream(shards=4)
        streams = [client.open("PutRecord", put("QUJD", key=str(i), StreamName=name)) for i in range(300)]
        self.assertEqual({client.answer(stream)[0] for stream in streams}, {200})
        self.assertEqual(sum(len(self.api.read_all(name, s["ShardId"])) for s in self.api.shards(name)), 300)
        self.assertTrue(eventually(lambda: self.streams_now() == 0))

    def test_an_answer_goes_as_the_client_s_window_allows(self):
        client = self.connection(settings=[(frames.INITIAL_WINDOW_SIZE, 0)])
        name = self.stream()
        self.api.put(name, "k", b"x" * 200_000)
        stream = client.open("GetRecords", json.dumps({"ShardIterator": self.api.iterator(name)}).encode())
        state = client.streams[stream]
        while state["status"] is None:
            client.take()
        self.assertEqual((state["status"], state["data"]), (200, b""))
        for room in (1, 10, 1000):
            client.send(frame(frames.WINDOW_UPDATE, stream=stream, payload=struct.pack(">I", room)))
            wanted = len(state["data"]) + room
            while len(state["data"]) < wanted:
                client.take(window=False)
            self.assertEqual(len(state["data"]), wanted)
        client.send(frame(frames.WINDOW_UPDATE, stream=stream, payload=struct.pack(">I", 1 << 20)))
        client.send(frame(frames.WINDOW_UPDATE, payload=struct.pack(">I", 1 << 20)))
        answer = json.loads(client.answer(stream, window=False)[1])
        self.assertEqual(frames.wire.data_of(answer["Records"][0]), b"x" * 200_000)

    def test_the_host_is_looked_at_as_in_http_1(self):
        client = self.connection()
        client.authority = "evil.example"
        stream = client.open("ListStreams", b"{}")
        status, text = client.answer(stream)
        self.assertNotEqual(status, 200)
        self.assertIn(b"loopback names only", text)

    def test_a_stop_says_so(self):
        server = self.server
        client = self.connection()
        client.call("ListStreams")
        self.addCleanup(server.start)
        server.stop()
        client.until_it_ends()
        self.assertEqual(client.goaway & 1, 1)


class Abuse(Http2):
    def test_rapid_reset(self):
        client = self.connection()
        body = frames.request("ListStreams", client.authority)
        code = None
        try:
            for first in range(1, 40_000, 200):
                streams = range(first, first + 200, 2)
                cancel = struct.pack(">I", 8)
                client.send(b"".join(frame(1, frames.END_HEADERS, s, body) + frame(3, 0, s, cancel) for s in streams))
        except OSError:
            pass
        code = client.until_it_ends()
        self.assertIn(code, (frames.ENHANCE_YOUR_CALM, None))
        self.serves()
        self.assertTrue(eventually(lambda: self.streams_now() == 0))

    def test_headers_without_end(self):
        client = self.connection()
        before = self.resident()
        client.send(frame(frames.HEADERS, 0, 1, frames.request("ListStreams", client.authority)))
        filler = frame(frames.CONTINUATION, 0, 1, frames.literal("x", "y" * 16_000))
        with self.assertRaises(OSError):
            for _ in range(40_000):
                client.send(filler)
        self.assertLess(self.resident() - before, HELD_MAX)
        self.serves()

    def test_headers_that_unfold(self):
        """A long header is remembered once and named ten thousand times."""
        client = self.connection()
        before = self.resident()
        headers = frames.request("ListStreams", client.authority) + frames.literal("x", "y" * 3_900, first=0x40) + b"\xbe" * 10_000
        client.send(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, headers))
        client.streams[1] = {"status": None, "data": b"", "ended": False, "reset": None}
        try:
            self.assertNotEqual(client.answer(1)[0], 200)
        except Ended:
            pass
        self.assertLess(self.resident() - before, HELD_MAX)
        self.serves()

    def flood(self, frames_of_it):
        """Sends without reading until the server stops taking, or 200 MB."""
        client = self.connection(timeout=2, receive_buffer=4096)
        before = self.resident()
        sent = 0
        try:
            while sent < 200 << 20:
                client.send(frames_of_it)
                sent += len(frames_of_it)
        except OSError:
            pass
        self.assertLess(self.resident() - before, HELD_MAX)
        self.serves()

    def test_floods_whose_answers_nobody_reads(self):
        self.flood(frame(frames.PING, payload=b"12345678") * 5_000)
        self.flood(frame(frames.SETTINGS) * 5_000)

    def test_windows_that_cannot_be(self):
        for update, code in [(struct.pack(">I", 0x7FFFFFFF), frames.FLOW_CONTROL_ERROR), (struct.pack(">I", 0), frames.PROTOCOL_ERROR)]:
            client = self.connection()
            client.send(frame(frames.WINDOW_UPDATE, payload=update))
            self.assertEqual(client.until_it_ends(), code)
        client = self.connection(settings=[(frames.INITIAL_WINDOW_SIZE, 0x80000000)])
        self.assertIn(client.until_it_ends(), (frames.FLOW_CONTROL_ERROR, frames.PROTOCOL_ERROR))
        self.serves()

    def test_more_than_the_server_s_window(self):
        client = self.connection()
        # The server's settings are not acknowledged, so its windows are the default's: 65,535 bytes.
        stream = client.open("ListStreams", b"x" * 200_000)
        with self.assertRaises(Ended) as ended:
            client.answer(stream)
        self.assertEqual(ended.exception.code, frames.FLOW_CONTROL_ERROR)
        self.assertIn("StreamNames", client.call("ListStreams"))

    def test_frames_that_must_not_be(self):
        headers = frames.request("ListStreams", "localhost")
        for text in [
            frame(frames.DATA, 0, 1, b"x"),
            frame(frames.HEADERS, frames.END_HEADERS, 2, headers),
            frame(frames.HEADERS, frames.END_HEADERS, 0, headers),
            frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
            frame(frames.PING, payload=b"short"),
            frame(frames.SETTINGS, payload=b"12345"),
            frame(frames.CONTINUATION, frames.END_HEADERS, 1, headers),
            b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 1000,
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ]:
            with self.subTest(text=text[:20]):
                client = self.connection()
                client.send(text)
                client.until_it_ends()
        self.serves()

    def test_requests_that_must_not_be(self):
        method = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")]
        for headers in [
            [*method, ("transfer-encoding", "chunked")],
            [*method, ("connection", "close")],
            [*method, ("Upper", "case")],
            [*method, (":method", "GET")],
            [*method, ("content-length", "5"), ("x", "y")],
            method[1:],
            [("x", "y"), *method],
            [*method, ("x", "a\r\ny: b")],
        ]:
            with self.subTest(headers=headers):
                client = self.connection()
                client.streams[1] = {"status": None, "data": b"", "ended": False, "reset": None}
                client.send(frame(frames.HEADERS, frames.END_HEADERS, 1, frames.block(headers)) + frame(frames.DATA, 1, 1, b"{}"))
                with self.assertRaises((Ended, ConnectionError)):
                    client.answer(1)
        self.serves()

    def test_streams_that_nobody_reads_slow_nobody(self):
        name = self.stream()
        for _ in range(4):
            self.api.put(name, "k", b"x" * 1_000_000)
        before = self.resident()
        client = self.connection(settings=[(frames.INITIAL_WINDOW_SIZE, 0)])
        body = json.dumps({"ShardIterator": self.api.iterator(name)}).encode()
        streams = [client.open("GetRecords", body) for _ in range(12)]
        while any(client.streams[stream]["status"] is None for stream in streams):
            client.take()
        self.serves()
        for _ in range(5):
            self.api.put(name, "k", b"y")
        # Each holds the buffer of its answer, of a pool that is there anyway.
        self.assertLess(self.resident() - before, 12 * (16 << 20) + HELD_MAX)
        client.close()
        self.assertTrue(eventually(lambda: self.streams_now() == 0))
