"""What every operation shares: heads, the order of checks."""

import json
import re
import socket
import unittest

from appliance import FOREIGN, ApiTest, Appliance
from wire import AUTHORIZATION, CONTENT_TYPE, TARGET

UNNAMED = (
    "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n"
    "</AccessDeniedException>\n"
)


class Protocol(ApiTest):
    def request(self, method="POST", body=b"{}", **headers):
        self.api.http.request(method, "/", body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = self.api.http.getresponse()
        return answer.status, answer.read().decode(), answer.headers

    def test_heads_of_answers(self):
        status, headers, body = self.api.send("ListStreams", b"{}")
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], CONTENT_TYPE)
        self.assertRegex(headers["x-amzn-RequestId"], r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertRegex(headers["x-amz-id-2"], r"^[A-Za-z0-9+/=]{40,}$")
        self.assertRegex(headers["Date"], r"^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$")
        self.assertEqual(int(headers["Content-Length"]), len(body))
        again = self.api.send("ListStreams", b"{}")[1]
        self.assertNotEqual(headers["x-amzn-RequestId"], again["x-amzn-RequestId"])

    def test_only_posts(self):
        for method in ("GET", "PUT", "DELETE"):
            status, text, _ = self.request(method, X_Amz_Target=TARGET + "ListStreams", Content_Type=CONTENT_TYPE)
            self.assertEqual((status, text), (403, UNNAMED), method)

    def test_a_signature_is_whole_or_not_there(self):
        headers = {"X_Amz_Target": TARGET + "ListStreams", "Content_Type": CONTENT_TYPE}
        self.assertEqual(self.request(**headers)[0], 200, "unsigned requests are taken")
        status, text, _ = self.request(Authorization=AUTHORIZATION.split(", Signature")[0], Date="now", **headers)
        self.assertEqual((status, json.loads(text)["__type"]), (400, "IncompleteSignatureException"))
        self.assertIn("Authorization header requires 'Signature' parameter. Authorization=AWS4", json.loads(text)["message"])
        self.assertEqual(self.request(Authorization=AUTHORIZATION, Date="now", **headers)[0], 200)

    def test_an_empty_body(self):
        headers = {"Authorization": AUTHORIZATION, "Content_Type": CONTENT_TYPE}
        status, text, _ = self.request(body=b"", X_Amz_Target=TARGET + "ListStreams", **headers)
        self.assertEqual((status, json.loads(text)), (400, {"__type": "SerializationException"}))
        status, text, _ = self.request(body=b"", X_Amz_Target=TARGET + "Nothing", **headers)
        self.assertEqual((status, json.loads(text)), (400, {"__type": "UnknownOperationException"}))

    def test_a_strange_content_type(self):
        status, text, _ = self.request(Content_Type="text/plain")
        self.assertEqual((status, text), (403, UNNAMED))
        status, text, _ = self.request(Content_Type="text/plain", X_Amz_Target=TARGET + "ListStreams")
        self.assertEqual((status, text), (404, "<UnknownOperationException/>\n"))

    def test_unknown_operations(self):
        for target in (TARGET + "Nothing", TARGET + "RegisterStreamConsumer2", "Firehose_20150804.PutRecord", "Kinesis_20131202"):
            status, text, _ = self.request(X_Amz_Target=target, Content_Type=CONTENT_TYPE, Authorization=AUTHORIZATION)
            self.assertEqual((status, json.loads(text)["__type"]), (400, "UnknownOperationException"), target)

    def test_a_body_that_is_no_json_comes_before_an_unknown_operation(self):
        status, _, text = self.api.send("Nothing", b"{")
        self.assertEqual((status, json.loads(text)), (400, {"__type": "SerializationException"}))

    def test_bodies_that_are_not_json(self):
        for body in (b"{", b"[", b"nothing", b'{"StreamName":}', b'{"a":1}x', b'{"a":"\xff"}', b'"text"', b"[]", b"\x00", b"{'a':1}"):
            status, _, text = self.api.send("DescribeStream", body)
            self.assertEqual((status, json.loads(text)["__type"]), (400, "SerializationException"), body)

    def test_a_charset_in_the_content_type(self):
        status, _, _ = self.api.send("ListStreams", b"{}", {"Content-Type": CONTENT_TYPE + "; charset=utf-8"})
        self.assertEqual(status, 200)

    def test_many_requests_on_one_connection_at_once(self):
        name = self.stream()
        body = json.dumps({"StreamName": name, "PartitionKey": "k", "Data": "AA=="}).encode()
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Target: {TARGET}PutRecord\r\nContent-Type: {CONTENT_TYPE}\r\n"
        request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        with socket.create_connection((self.server.host, self.server.port), 30) as raw:
            raw.sendall(request * 20)
            answers = b""
            while answers.count(b"SequenceNumber") < 20:
                got = raw.recv(65536)
                self.assertTrue(got, answers)
                answers += got
        self.assertEqual(answers.count(b"HTTP/1.1 200"), 20)
        self.assertEqual(len(self.api.read_all(name)), 20)


@unittest.skipIf(FOREIGN, "what penstock alone does")
class Penstock(ApiTest):
    """What keeps web pages away, and what else is not as AWS has it."""

    def test_only_loopback_host_names(self):
        for host, status in [
            ("127.0.0.1", 200), ("localhost", 200), (f"localhost:{self.server.port}", 200), ("kinesis.localhost:4567", 200),
            ("127.1.2.3", 200), ("[::1]:4567", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil", 403),
        ]:  # fmt: skip
            with self.subTest(host=host):
                self.assertEqual(self.api.send("ListStreams", b"{}", {"Host": host})[0], status)

    def test_no_word_of_cross_origin_requests(self):
        _, headers, _ = self.api.send("ListStreams", b"{}", {"Origin": "http://evil.example"})
        self.assertFalse([name for name in headers if name.lower().startswith("access-control")])

    def test_dry_runs_do_nothing_and_find_what_is_wrong(self):
        name = self.stream()
        iterator = self.api.iterator(name)
        calls = {
            "PutRecord": {"StreamName": name, "PartitionKey": "k", "Data": "AA=="},
            "PutRecords": {"StreamName": name, "Records": [{"PartitionKey": "k", "Data": "AA=="}]},
            "GetShardIterator": {"StreamName": name, "ShardId": "0", "ShardIteratorType": "LATEST"},
            "GetRecords": {"ShardIterator": iterator},
        }
        for operation, members in calls.items():
            for true in (True, "true", "Yes", "1"):
                self.assertEqual(self.refused(operation, DryRun=true, **members).type, "DryRunOperationException", operation)
        self.assertEqual(self.api.call("GetRecords", ShardIterator=iterator)["Records"], [])
        for operation in ("PutRecord", "PutRecords", "GetShardIterator"):
            members = calls[operation] | {"StreamName": "nobody"}
            self.assertEqual(self.refused(operation, DryRun=True, **members).type, "ResourceNotFoundException", operation)
        self.assertEqual(self.refused("GetRecords", DryRun=True, ShardIterator="x").type, "InvalidArgumentException")
        for operation, members in calls.items():
            for false in (False, None, "no", "0"):
                self.api.call(operation, DryRun=false, **members)

    def test_health_and_metrics(self):
        status, text = self.api.get("/health")
        self.assertEqual(status, 200)
        self.assertTrue(text.strip())
        name = self.stream()

        def acked():
            lines = self.api.get("/metrics")[1].splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.startswith("penstock_records_acked_total"))

        before = acked()
        self.api.call("PutRecords", StreamName=name, Records=[{"PartitionKey": str(n), "Data": "AA=="} for n in range(9)])
        self.assertEqual(acked() - before, 9)
        self.assertRegex(self.api.get("/metrics")[1], r'(?m)^penstock_log_index_bytes_now\{worker="0"\} \d+$')


@unittest.skipIf(FOREIGN, "stops its server")
class Latencies(ApiTest):
    own = True

    def histogram(self, label, value):
        """(buckets as (bound, count), count, sum) of what has been timed."""
        text = self.api.get("/metrics")[1]
        name = f'penstock_{label}_seconds'
        found = re.findall(rf'^{name}_bucket{{{label}="{value}",le="([^"]+)"}} (\d+)$', text, re.M)
        buckets = [(float(bound), int(count)) for bound, count in found]
        single = lambda what: float(re.search(rf'^{name}_{what}{{{label}="{value}"}} (\S+)$', text, re.M)[1])
        return buckets, single("count"), single("sum")

    def test_what_was_done_is_timed(self):
        name = self.stream()
        for number in range(20):
            self.api.call("PutRecords", StreamName=name, Records=[{"PartitionKey": "k", "Data": "AA=="}])
            self.api.put(name, "k", b"%d" % number)
        for _ in range(3):
            self.api.read_all(name)
        wanted = {"PutRecords": 20, "PutRecord": 20, "GetShardIterator": 3}
        for operation, count in wanted.items():
            self.assertEqual(self.histogram("operation", operation)[1], count, operation)
        for stage in ("parsed", "queued", "written", "durable", "sent"):
            # Some commits have several puts, each commit is on its own way.
            self.assertGreaterEqual(self.histogram("stage", stage)[1], 20, stage)
        for label, value in [("operation", "PutRecord"), ("stage", "written")]:
            buckets, count, total = self.histogram(label, value)
            bounds, counts = zip(*buckets)
            self.assertEqual(list(bounds), sorted(bounds))
            self.assertEqual(list(counts), sorted(counts))
            self.assertEqual((bounds[-1], counts[-1]), (float("inf"), count))
            # A durable put takes time, and less than all of it together.
            self.assertGreater(total, 0)
            self.assertLess(total, 20 * bounds[-2])
        # What was refused by its head counts as none of them.
        self.api.http.request("GET", "/", b"")
        self.api.http.getresponse().read()
        self.assertEqual(self.histogram("operation", "PutRecord")[1], 20)

    def test_a_stop_says_the_quantiles(self):
        server = Appliance()
        self.addCleanup(server.remove)
        server.start()
        api = server.client()
        api.call("CreateStream", StreamName="s", ShardCount=1)
        api.call("PutRecords", StreamName="s", Records=[{"PartitionKey": "k", "Data": "AA=="}] * 3)
        with self.assertRaises(Exception):
            api.call("DescribeStream", StreamName="another")
        api.close()
        self.assertEqual(server.stop(), 0)
        self.assertRegex(server.output(), r"(?m)^  latency, us +count +p50 +p99 +p99.9 +max$")
        self.assertRegex(server.output(), r"(?m)^  control +\d+( +\d+\.\d){4}$")
        self.assertRegex(server.output(), r"(?m)^  acknowledged 3 records, 6 B \(\d+ records/s, \d+ B/s in \d+\.\d s\); refused 0$")
        self.assertRegex(server.output(), r"(?m)^  answered 3 requests, 1 with an error, and 0 native batches$")
        self.assertRegex(server.output(), r"(?m)^  wrote \d commits, \d+\.\d kB with what was moved: \d+\.\d\d bytes for each of records$")
