"""Bytes that no SDK sends. After each the server still serves, and nothing of a refused request has been stored."""

import json
import pathlib
import re
import socket
import time
import unittest

from appliance import FOREIGN, ApiTest, eventually
from wire import AUTHORIZATION, CONTENT_TYPE, TARGET

BODY_BYTES_MAX = 16 << 20


class BadInput(ApiTest):
    own = True

    def setUp(self):
        super().setUp()
        self.name_ = self.stream(shards=2)

    def tearDown(self):
        fresh = self.server.client()
        for shard in self.api.shards(self.name_):
            self.assertEqual(fresh.read_all(self.name_, shard["ShardId"]), [], "a part of a refused request was stored")
        fresh.put(self.name_, "k", b"still served")
        fresh.close()

    def head(self, *lines, operation="PutRecord", line="POST / HTTP/1.1"):
        fixed = [
            line, "Host: 127.0.0.1", f"X-Amz-Target: {TARGET}{operation}", f"Content-Type: {CONTENT_TYPE}",
            f"Authorization: {AUTHORIZATION}",
        ]  # fmt: skip
        return "\r\n".join([*fixed, *lines, "", ""]).encode()

    def put_body(self):
        return json.dumps({"StreamName": self.name_, "PartitionKey": "k", "Data": "AAAA"}).encode()

    def exchange(self, *pieces, half_close=True):
        """All bytes that come back until the server closes."""
        with socket.create_connection((self.server.host, self.server.port), 60) as raw:
            try:
                for piece in pieces:
                    raw.sendall(piece)
                if half_close:
                    raw.shutdown(socket.SHUT_WR)
                answer = b""
                while got := raw.recv(65536):
                    answer += got
            except (ConnectionResetError, BrokenPipeError):
                pass
            return answer

    def turned_away(self, *pieces):
        """Answered with an error and closed, or closed at once."""
        answer = self.exchange(*pieces, half_close=False)
        self.assertRegex(answer.split(b"\r\n")[0], rb"^(HTTP/1\.[01] [45]\d\d.*)?$")
        return answer

    def test_request_lines(self):
        for line in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\0" * 64 + b"\r\n\r\n",
            b"POST  /  HTTP/1.1\r\n\r\n", b"P\xffST / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nno colon\r\n\r\n",
            b"POST / HTTP/1.1\r\nA b: c\r\n\r\n", b"POST / HTTP/1.1\r\n folded: x\r\n\r\n", b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        ):  # fmt: skip
            with self.subTest(line=line):
                self.turned_away(line)

    def test_heads_without_an_end(self):
        self.turned_away(b"POST / HTTP/1.1\r\nX: " + b"x" * 40_000)
        self.turned_away(self.head(*[f"X-{n}: {'x' * 80}" for n in range(400)]))
        self.turned_away(b"P" * 20_000)

    def test_lengths_that_contradict(self):
        body = self.put_body()
        smuggled = self.head(f"Content-Length: {len(body)}") + body
        for lines in (
            ["Content-Length: 5", f"Content-Length: {len(body)}"],
            [f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: gzip, chunked"],
            ["Transfer-Encoding: chunked, identity"],
            ["Transfer-Encoding: xchunked"],
            ["Content-Length: -1"],
            ["Content-Length: +5"],
            ["Content-Length: 0x10"],
            ["Content-Length: 5, 6"],
            ["Content-Length: 99999999999999999999999"],
            [f"Content-Length: {1 << 40}"],
        ):
            with self.subTest(lines=lines):
                self.turned_away(self.head(*lines) + smuggled)

    def test_bodies_over_the_limit(self):
        answer = self.turned_away(self.head(f"Content-Length: {BODY_BYTES_MAX + 1}"), b"x" * 100_000)
        self.assertIn(b" 413 ", answer.split(b"\r\n")[0])

    def test_a_client_that_sends_all_before_it_reads_is_told_too(self):
        for _ in range(5):
            client = self.server.client()
            status, headers, _ = client.send("PutRecord", b"x" * (2 * BODY_BYTES_MAX))
            self.assertEqual((status, headers["Connection"]), (413, "close"))
            chunk = b"%x\r\n%s\r\n" % (3 << 20, b"x" * (3 << 20))
            status, _, _ = client.send("PutRecord", iter([chunk] * 7), {"Transfer-Encoding": "chunked"})
            self.assertEqual(status, 413)
            client.close()

    def test_wrong_chunks(self):
        for chunks in (b"zz\r\n", b"-1\r\n", b"5\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"5;" + b"x" * 20_000, b"5\nabcde\n0\n\n"):
            with self.subTest(chunks=chunks[:20]):
                self.turned_away(self.head("Transfer-Encoding: chunked") + chunks, b"\r\n" * 10)

    def test_a_body_that_stops_in_the_middle(self):
        body = self.put_body()
        for cut in (0, 1, len(body) // 2, len(body) - 1):
            answer = self.exchange(self.head(f"Content-Length: {len(body)}") + body[:cut])
            self.assertNotIn(b" 200 ", answer[:20])
        self.exchange(self.head("Transfer-Encoding: chunked") + b"%x\r\n" % len(body) + body)

    def test_connections_that_break_off(self):
        body = json.dumps({"StreamName": self.name_, "Records": [{"PartitionKey": "k", "Data": "A" * 40_000}] * 20}).encode()
        for cut in (10, 300, 5_000, 100_000, len(body) - 1):
            raw = socket.create_connection((self.server.host, self.server.port), 30)
            raw.sendall(self.head(f"Content-Length: {len(body)}", operation="PutRecords") + body[:cut])
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raw.close()

    def test_deep_json(self):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            for depth in (200, 50_000, 1_000_000):
                nested = (opening * depth + "1" + closing * depth).encode()
                for operation in ("PutRecord", "PutRecords", "CreateStream", "GetRecords"):
                    body = b'{"StreamName":"%s","Deep":%s}' % (self.name_.encode(), nested)
                    status, _, text = self.api.send(operation, body)
                    self.assertEqual(status, 400)
                    self.assertIn(json.loads(text)["__type"], ("SerializationException", "ValidationException"), depth)

    def test_strings_that_are_none(self):
        name = self.name_.encode()
        for member in (
            rb'"Data":"AAAA","PartitionKey":"\ud800"', rb'"Data":"AAAA","PartitionKey":"\x"', rb'"Data":"AAAA","PartitionKey":"\u12"',
            b'"Data":"AAAA","PartitionKey":"a\nb"', b'"Data":"AAAA","PartitionKey":"\xff\xfe"', b'"Data":"AAAA","PartitionKey":"\xc0\x80"',
            rb'"PartitionKey":"k","Data":"AA\u0000A"', rb'"PartitionKey":"k","Data":"AAA\"', b'"PartitionKey":"k","Data":"AA\tA"',
            rb'"PartitionKey":"k","Data":"\u00c4AAA"', b'"PartitionKey":"k","Data":{"a":"AAAA"}', b'"PartitionKey":"k","Data":["AAAA"]',
            b'"PartitionKey":"k","Data":true', b'"PartitionKey":"k","Data":7', b'"PartitionKey":"k","Data":"AAAA",', b'"PartitionKey"',
        ):  # fmt: skip
            with self.subTest(member=member):
                for body, operation in (
                    (b'{"StreamName":"%s",%s}' % (name, member), "PutRecord"),
                    (b'{"StreamName":"%s","Records":[{"PartitionKey":"k","Data":"AAAA"},{%s}]}' % (name, member), "PutRecords"),
                ):
                    status, _, text = self.api.send(operation, body)
                    self.assertEqual((status, json.loads(text)["__type"]), (400, "SerializationException"), text)

    def test_members_of_the_wrong_shape(self):
        name = self.name_
        for records in ("text", {"a": 1}, 5, True, [5], ["x"], [[]], [None], [{"PartitionKey": {}, "Data": "AAAA"}]):
            error = self.refused("PutRecords", StreamName=name, Records=records)
            self.assertIn(error.type, ("SerializationException", "ValidationException"), records)

    def test_megabytes_of_one_string(self):
        long = "k" * (2 << 20)
        for operation, members in [
            ("PutRecord", {"StreamName": self.name_, "PartitionKey": long, "Data": "AAAA"}),
            ("PutRecord", {"StreamName": long, "PartitionKey": "k", "Data": "AAAA"}),
            ("GetRecords", {"ShardIterator": long}),
            ("CreateStream", {"StreamName": long, "ShardCount": 1}),
        ]:
            self.assertEqual(self.refused(operation, **members).type, "ValidationException", operation)
        # However long its text would be.
        self.assertEqual(self.refused("CreateStream", StreamName='"' * (7 << 20), ShardCount=1).type, "ValidationException")

    @unittest.skipIf(FOREIGN, "looks at the server's memory")
    def test_megabytes_of_small_values_cost_no_more_than_their_bytes(self):
        def peak_mib():
            status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
            return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) >> 10

        before = peak_mib()
        for operation, item in (("PutRecords", b"{}"), ("PutRecords", b'{"":0}'), ("PutRecord", b"[]"), ("CreateStream", b'{"":[]}')):
            items = b",".join([item] * ((BODY_BYTES_MAX - 100) // (len(item) + 1)))
            status, _, text = self.api.send(operation, b'{"Records":[%s]}' % items)
            self.assertEqual((status, json.loads(text)["__type"]), (400, "ValidationException"))
        tags = b",".join(b'"%06x":""' % n for n in range(1_300_000))
        status, _, text = self.api.send("CreateStream", b'{"StreamName":"x","Tags":{%s}}' % tags)
        self.assertEqual((status, json.loads(text)["__type"]), (400, "ValidationException"))
        # Buffers of the pools are touched for the first time, and no more.
        self.assertLess(peak_mib() - before, 100)

    def test_numbers_out_of_range(self):
        for number in (b"1e400", b"-1", b"99999999999999999999999999999999999999999", b"NaN", b"1" * 5_000):
            status, _, text = self.api.send("CreateStream", b'{"StreamName":"numbers","ShardCount":%s}' % number)
            self.assertEqual(status, 400, number)
            self.assertIn(json.loads(text)["__type"][-9:], "SerializationException ValidationException LimitExceededException", number)

    def test_ten_million_shards_are_refused(self):
        error = self.refused("CreateStream", StreamName="too-many", ShardCount=10_000_000)
        self.assertIn(error.type, ("LimitExceededException", "InvalidArgumentException", "ValidationException"))


class GoodInput(ApiTest):
    """Rare, and right."""

    def test_bodies_in_chunks_and_in_drops(self):
        name = self.stream()
        body = json.dumps({"StreamName": name, "PartitionKey": "k", "Data": "AAAA"}).encode()
        head = f"POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: {TARGET}PutRecord\r\ncontent-type: {CONTENT_TYPE}\r\n".encode()
        chunked = b"".join(b"%X;a=b\r\n%s\r\n" % (len(piece), piece) for piece in (body[:1], body[1:9], body[9:])) + b"0\r\nT: x\r\n\r\n"
        for request in (head + b"transfer-encoding: chunked\r\n\r\n" + chunked, head + b"content-length: %d\r\n\r\n%s" % (len(body), body)):
            with socket.create_connection((self.server.host, self.server.port), 30) as raw:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(len(request)):
                    raw.sendall(request[at : at + 1])
                self.assertIn(b"HTTP/1.1 200", raw.recv(4096))
        self.assertEqual(len(self.api.read_all(name)), 2)

    def test_a_client_that_asks_before_it_sends(self):
        name = self.stream()
        body = json.dumps({"StreamName": name, "PartitionKey": "k", "Data": b"x" * 300_000}, default=lambda b: "A" * 400_000).encode()
        head = (
            f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {TARGET}PutRecord\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection((self.server.host, self.server.port), 30) as raw:
            raw.sendall(head.encode())
            self.assertTrue(raw.recv(4096).startswith(b"HTTP/1.1 100 "))
            raw.sendall(body)
            self.assertIn(b"HTTP/1.1 200", raw.recv(4096))
        self.assertEqual(len(self.api.read_all(name)), 1)

    def test_connection_close_is_honoured(self):
        with socket.create_connection((self.server.host, self.server.port), 30) as raw:
            raw.sendall(
                f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {TARGET}ListStreams\r\nContent-Type: {CONTENT_TYPE}\r\n"
                "Connection: close\r\nContent-Length: 2\r\n\r\n{}".encode()
            )
            answer = b""
            while got := raw.recv(4096):
                answer += got
        self.assertIn(b"HTTP/1.1 200", answer)


@unittest.skipIf(FOREIGN, "waits for penstock's own deadline")
class Silence(ApiTest):
    own = True

    def test_half_requests_are_dropped_and_idle_connections_kept(self):
        name = self.stream()
        place = (self.server.host, self.server.port)
        idle = [self.server.client() for _ in range(200)]
        for client in idle:
            client.call("ListStreams")
        silent = [socket.create_connection(place, 90) for _ in range(50)]
        for number, raw in enumerate(silent):
            head = f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {TARGET}PutRecord\r\nContent-Length: 500\r\n\r\n{{"
            raw.sendall(head.encode()[: [10, 60, 1000][number % 3]])
        # Others are served meanwhile.
        for _ in range(50):
            self.api.put(name, "k", b"x")
        started = time.monotonic()
        for raw in silent:
            try:
                while raw.recv(4096):
                    pass
            except ConnectionResetError:
                pass
            raw.close()
        self.assertGreater(time.monotonic() - started, 5, "dropped at once: a slow client needs time")
        for client in idle:
            client.call("ListStreams")
            client.close()
        self.assertTrue(eventually(lambda: len(self.api.read_all(name)) == 50))

    def test_a_reader_that_takes_nothing_holds_up_no_one(self):
        name = self.stream()
        for _ in range(10):
            self.api.put(name, "k", b"y" * 1_000_000)
        iterator = self.api.iterator(name)
        body = json.dumps({"ShardIterator": iterator}).encode()
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {TARGET}GetRecords\r\nContent-Type: {CONTENT_TYPE}\r\n"
        stalled = []
        for _ in range(12):
            raw = socket.create_connection((self.server.host, self.server.port), 30)
            raw.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            stalled.append(raw)
        for _ in range(20):
            self.api.put(name, "k", b"z")
        self.assertEqual(self.api.call("GetRecords", ShardIterator=iterator, Limit=1)["Records"][0]["PartitionKey"], "k")
        for raw in stalled:
            raw.close()
