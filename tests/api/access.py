"""Who is let in by a server with credentials: signatures, users and their policies, observers."""

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import unittest

import frames
import wire
from appliance import FOREIGN, Appliance, eventually, new_directory
from signer import Signed, Signer, sha256, stamp

MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. "
    "Consult the service documentation for details."
)
UNKNOWN = "The security token included in the request is invalid."
ALL = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
TOKEN = "observer-0123456789abcdef"
ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/"


def user(name, *keys, policies=(ALL,)):
    return {"name": name, "keys": list(keys), "policies": list(policies)}


def key(id, secret=None, **more):
    return {"id": id, "secret": secret or f"secret-of-{id}-0123456789", **more}


def signer(id, **options):
    return Signer(id, f"secret-of-{id}-0123456789", **options)


def statement(effect, action, resource, **more):
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource, **more}]}


USERS = [
    user("app", key("AKIAAPP1"), key("AKIAAPP2")),
    user("guest", key("ASIAGUEST", session_token="token/of+guest=="), key("ASIALATE", session_token="late", expires="20200101T000000Z")),
    user("off", key("AKIAOFF1", active=False)),
    user("reader", key("AKIAREAD"), policies=[statement("Allow", ["kinesis:Get*", "kinesis:Describe*", "kinesis:List*"], "*")]),
    user("mine", key("AKIAMINE"), policies=[statement("Allow", "kinesis:*", ARN + "${aws:username}-*")]),
    user("nothing", key("AKIANONE"), policies=[]),
    user(
        "tags", key("AKIATAGS"),
        policies=[
            statement("Allow", "kinesis:CreateStream", "*", Condition={"StringEquals": {"aws:RequestTag/team": "blue"}}),
            statement("Allow", "kinesis:PutRecord", "*", Condition={"StringEquals": {"aws:ResourceTag/team": "blue"}}),
        ],
    ),
    user("near", key("AKIANEAR"), policies=[statement("Allow", "*", "*", Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}})]),
    user("far", key("AKIAFAR1"), policies=[ALL, statement("Deny", "*", "*", Condition={"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}})]),
    user("watch", key("AKIAWATCH"), policies=[statement("Allow", "penstock:ReadMetrics", "*")]),
    user(
        "careful", key("AKIACARE"),
        policies=[ALL, statement("Deny", "kinesis:DeleteStream", "*"), statement("Deny", "*", "*", Condition={"Bool": {"aws:SecureTransport": True}})],
    ),
]  # fmt: skip


class AccessTest(unittest.TestCase):
    """A server with credentials of its own."""

    flags = ()

    @classmethod
    def setUpClass(cls):
        if FOREIGN:
            raise unittest.SkipTest("needs a server of its own")
        cls.directory = new_directory()
        cls.file = cls.directory / "credentials.json"
        cls.write(USERS)
        cls.server = Appliance("--credentials", cls.file, *cls.flags, data=cls.directory / "data").start()
        cls.addClassCleanup(cls.remove)

    @classmethod
    def remove(cls):
        cls.server.remove()
        shutil.rmtree(cls.directory, ignore_errors=True)

    @classmethod
    def write(cls, users, observers=(TOKEN,), mode=0o600, text=None):
        text = text or json.dumps({"users": users, "observers": list(observers)})
        other = cls.file.with_suffix(".new")
        other.write_text(text)
        other.chmod(mode)
        other.rename(cls.file)

    def setUp(self):
        self.assertTrue(self.server.running(), f"the server has ended:\n{self.server.output()[-2000:]}")
        self.api = self.client("AKIAAPP1")

    def client(self, id, **options):
        api = Signed(self.server.host, self.server.port, signer(id, **options))
        self.addCleanup(lambda: api.close())
        return api

    def stream(self, name=None, **members):
        name = name or self.id().rsplit(".", 1)[-1]
        self.api.call("CreateStream", StreamName=name, ShardCount=1, **members)
        self.addCleanup(lambda: self.client("AKIAAPP1").call("DeleteStream", StreamName=name))
        return name

    def list_streams(self, api, body=b"{}", **options):
        """The headers of a ListStreams, signed."""
        return api.signer.headers(api.host, body, wire.TARGET + "ListStreams", **options)

    def refused(self, api, kind, text, headers, body=b"{}", path="/"):
        self.assertEqual(api.error("POST", path, body, headers), (400, kind, text))


class Signatures(AccessTest):
    def test_both_keys_of_a_user_and_a_session(self):
        for api in [self.api, self.client("AKIAAPP2"), self.client("ASIAGUEST", token="token/of+guest==")]:
            self.assertIn("StreamNames", api.call("ListStreams"))

    def test_who_signs_nothing_is_refused_before_the_body(self):
        for headers in [
            {"x-amz-target": wire.TARGET + "ListStreams", "content-type": wire.CONTENT_TYPE, "host": "x"},
            {"x-amz-target": wire.TARGET + "ListStreams", "content-type": wire.CONTENT_TYPE, "host": "x", "authorization": "Bearer x"},
        ]:
            self.refused(self.client("AKIAAPP1"), "MissingAuthenticationTokenException", "Missing Authentication Token", headers)
        for operation, content_type, told in [
            ("PutRecords", wire.CONTENT_TYPE, b"MissingAuthenticationTokenException"),
            ("Nothing", wire.CONTENT_TYPE, b"UnknownOperationException"),
            ("PutRecords", "text/plain", b"UnknownOperationException"),
        ]:
            for length in ("Content-Length: 9000000", "Transfer-Encoding: chunked"):
                with self.subTest(operation=operation, content_type=content_type, length=length):
                    self.answered_before_the_body(operation, content_type, length, told)

    def answered_before_the_body(self, operation, content_type, length, told):
        with socket.create_connection((self.server.host, int(self.server.port)), timeout=20) as plain:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: {wire.TARGET}{operation}\r\nContent-Type: {content_type}\r\n"
            plain.sendall(f"{head}{length}\r\n\r\n".encode())
            answer = plain.recv(4096)
            self.assertIn(told, answer)
            self.assertIn(b"\r\nConnection: close\r\n", answer)
            plain.shutdown(socket.SHUT_WR)
            self.assertEqual(plain.recv(4096), b"")

    def test_an_operation_that_is_not_there_is_told_to_who_is_known(self):
        headers = self.api.signer.headers(self.api.host, b"{}", wire.TARGET + "Nothing")
        for _ in range(2):
            self.assertEqual(self.api.error("POST", "/", b"{}", headers), (400, "UnknownOperationException", None))
        headers = self.api.signer.headers(self.api.host, b"{{", wire.TARGET + "Nothing")
        self.assertEqual(self.api.error("POST", "/", b"{{", headers), (400, "SerializationException", None))

    def test_keys_that_are_not_good(self):
        unknown = ("UnrecognizedClientException", UNKNOWN)
        for api in [self.client("AKIAOTHER"), self.client("AKIAOFF1"), self.client("ASIAGUEST"), self.client("ASIAGUEST", token="other")]:
            self.refused(api, *unknown, self.list_streams(api))
        api = self.client("AKIAAPP1", token="token")
        self.refused(api, *unknown, self.list_streams(api))
        api = self.client("ASIALATE", token="late")
        self.refused(api, "ExpiredTokenException", "The security token included in the request is expired", self.list_streams(api))

    def test_whatever_is_altered(self):
        mismatch = ("InvalidSignatureException", MISMATCH)
        forger = Signed(self.server.host, self.server.port, Signer("AKIAAPP1", "guessed-0123456789"))
        self.refused(forger, *mismatch, self.list_streams(forger))
        self.refused(self.api, *mismatch, self.list_streams(self.api), body=b'{"Limit":1}')
        self.refused(self.api, *mismatch, self.list_streams(self.api) | {"x-amz-target": wire.TARGET + "ListShards"})
        self.refused(self.api, *mismatch, self.list_streams(self.api) | {"content-type": wire.CONTENT_TYPE + ";x"})
        self.refused(self.api, *mismatch, self.list_streams(self.api), path="/?a=1")
        self.refused(self.api, *mismatch, self.list_streams(self.api), path="/other")
        wrong = {"x-amz-content-sha256": sha256(b"other")}
        self.refused(self.api, *mismatch, self.list_streams(self.api, **wrong))
        right = self.list_streams(self.api, **{"x-amz-content-sha256": sha256(b"{}")})
        self.assertEqual(self.api.request("POST", "/", b"{}", right)[0], 200, "the connection is good for the next request")
        api = self.client("AKIAAPP1")
        text = "There were headers present in the request which were not signed: x-amz-more"
        self.refused(api, "InvalidSignatureException", text, self.list_streams(api) | {"x-amz-more": "1"})

    def test_a_body_that_is_no_json_is_told_first(self):
        headers = self.list_streams(self.api)
        self.assertEqual(self.api.error("POST", "/", b"{{", headers), (400, "SerializationException", None))
        headers = self.list_streams(self.api) | {"x-amz-target": wire.TARGET + "Nothing"}
        self.assertEqual(self.api.error("POST", "/", b"{}", headers), (400, "UnknownOperationException", None))

    def test_the_clock(self):
        for seconds, beginning in [(-400, "Signature expired: "), (400, "Signature not yet current: ")]:
            api, at = self.client("AKIAAPP1"), stamp(seconds)
            status, kind, text = api.error("POST", "/", b"{}", self.list_streams(api, at=at))
            self.assertEqual((status, kind), (400, "InvalidSignatureException"))
            self.assertTrue(text.startswith(beginning + at), text)
            self.assertIn("5 min.)", text)
        for seconds in (-200, 200):
            self.assertEqual(self.api.request("POST", "/", b"{}", self.list_streams(self.api, at=stamp(seconds)))[0], 200)

    def test_the_place(self):
        api = self.client("AKIAAPP1", region="eu-west-1")
        text = "Credential should be scoped to a valid region, not 'eu-west-1'. "
        self.refused(api, "InvalidSignatureException", text, self.list_streams(api))
        api = self.client("AKIAAPP1", service="s3")
        text = "Credential should be scoped to correct service: 'kinesis'. "
        self.refused(api, "InvalidSignatureException", text, self.list_streams(api))

    def test_presigned(self):
        def presigned(api, **options):
            return api.signer.presigned(api.host, b"{}", wire.TARGET + "ListStreams", **options)

        for api in [self.api, self.client("ASIAGUEST", token="token/of+guest==")]:
            query, headers = presigned(api)
            self.assertEqual(api.request("POST", f"/?{query}", b"{}", headers)[0], 200)
            self.refused(api, "InvalidSignatureException", MISMATCH, headers, body=b'{"Limit":1}', path=f"/?{query}")
            altered = query.replace("X-Amz-Expires=60", "X-Amz-Expires=61")
            self.refused(api, "InvalidSignatureException", MISMATCH, headers, path=f"/?{altered}")
        query, headers = presigned(self.api, expires=3600, at=stamp(-3000))
        self.assertEqual(self.api.request("POST", f"/?{query}", b"{}", headers)[0], 200)
        api = self.client("AKIAAPP1")
        query, headers = presigned(api, expires=60, at=stamp(-100))
        self.assertIn("Signature expired: ", api.error("POST", f"/?{query}", b"{}", headers)[2])

    def test_bodies_in_chunks_and_large_ones(self):
        name = self.stream()
        records = [{"Data": wire.text_of(bytes([n]) * 300_000), "PartitionKey": str(n)} for n in range(8)]
        body = json.dumps({"StreamName": name, "Records": records}).encode()
        status, _, answer = self.api.send("PutRecords", body)
        self.assertEqual((status, json.loads(answer)["FailedRecordCount"]), (200, 0))
        for altered, expected in [(False, 200), (True, 400)]:
            headers = self.api.signer.headers(self.api.host, body, wire.TARGET + "PutRecords")
            sent = body.replace(b'"PartitionKey": "7"', b'"PartitionKey": "6"') if altered else body
            self.api.http.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
            for header in (headers | {"transfer-encoding": "chunked"}).items():
                self.api.http.putheader(*header)
            self.api.http.endheaders()
            for at in range(0, len(sent), 70_001):
                piece = sent[at : at + 70_001]
                self.api.http.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.api.http.send(b"0\r\n\r\n")
            answer = self.api.http.getresponse()
            self.assertEqual((answer.status, b"InvalidSignature" in answer.read()), (expected, altered))
        self.assertEqual(len(self.api.read_all(name)), 16)

    def test_a_refusal_speaks_as_the_request(self):
        cbor = {"x-amz-target": wire.TARGET + "ListStreams", "content-type": "application/x-amz-cbor-1.1", "host": "x"}
        for api, headers in [(self.client("AKIAAPP1"), cbor), (self.api, self.list_streams(self.api) | cbor)]:
            status, answered, body = api.request("POST", "/", b"\xa0", headers)
            self.assertEqual((status, answered["Content-Type"]), (400, cbor["content-type"]))
            self.assertTrue(b"MissingAuthenticationTokenException" in body or b"InvalidSignatureException" in body, body)

    def test_any_host_name(self):
        headers = self.api.signer.headers("kinesis.us-east-1.amazonaws.com", b"{}", wire.TARGET + "ListStreams")
        self.assertEqual(self.api.request("POST", "/", b"{}", headers)[0], 200)

    def test_refusals_are_told_and_counted_without_secrets(self):
        api = self.client("AKIAOTHER")
        api.request("POST", "/", b"{}", self.list_streams(api))
        self.assertTrue(self.server.says("with an access key that the credentials file does not have"))
        counts = self.metrics(TOKEN)
        self.assertIn("penstock_refused_unknown_key_total", counts)
        self.assertNotIn("secret-of-", self.server.output())

    def metrics(self, token):
        self.api.http.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        return self.api.http.getresponse().read().decode()


class Encrypted(AccessTest):
    """`careful` may do nothing in TLS."""

    flags = ("--tls-self-signed",)

    def test_what_is_encrypted_is_known(self):
        context = ssl.create_default_context(cafile=self.server.data / "tls" / "authority.pem")
        for id, allowed in [("AKIAAPP1", True), ("AKIACARE", False)]:
            api = self.client(id)
            api.http = http.client.HTTPSConnection("localhost", self.server.port, timeout=60, context=context)
            if allowed:
                self.assertIn("StreamNames", api.call("ListStreams"))
            else:
                with self.assertRaises(wire.Refused) as caught:
                    api.call("ListStreams")
                self.assertIn("with an explicit deny", caught.exception.text)


class Policies(AccessTest):
    def denied(self, api, action, resource, operation, why=None, **members):
        with self.assertRaises(wire.Refused) as caught:
            api.call(operation, **members)
        name = {"AKIAREAD": "reader", "AKIAMINE": "mine", "AKIANONE": "nothing", "AKIACARE": "careful", "AKIAWATCH": "watch"}[api.signer.key]
        why = why or f"because no identity-based policy allows the {action} action"
        text = f"User: arn:aws:iam::000000000000:user/{name} is not authorized to perform: {action} on resource: {resource} {why}"
        self.assertEqual((caught.exception.status, caught.exception.type, caught.exception.text), (400, "AccessDeniedException", text))

    def test_every_operation_is_asked_for(self):
        name = self.stream()
        self.api.put(name, "k", b"1")
        shard, arn = "shardId-000000000000", ARN + name
        iterator = self.api.iterator(name)
        nobody, reader = self.client("AKIANONE"), self.client("AKIAREAD")
        reads = {
            "DescribeStream": {"StreamName": name},
            "DescribeStreamSummary": {"StreamARN": arn},
            "ListShards": {"StreamName": name},
            "ListTagsForStream": {"StreamName": name},
            "GetShardIterator": {"StreamName": name, "ShardId": shard, "ShardIteratorType": "LATEST"},
            "GetRecords": {"ShardIterator": iterator},
        }
        writes = {
            "PutRecord": {"StreamName": name, "PartitionKey": "k", "Data": b"2"},
            "PutRecords": {"StreamARN": arn, "Records": [{"PartitionKey": "k", "Data": b"3"}]},
            "SplitShard": {"StreamName": name, "ShardToSplit": shard, "NewStartingHashKey": "7"},
            "MergeShards": {"StreamName": name, "ShardToMerge": shard, "AdjacentShardToMerge": "shardId-000000000001"},
            "IncreaseStreamRetentionPeriod": {"StreamName": name, "RetentionPeriodHours": 48},
            "DecreaseStreamRetentionPeriod": {"StreamName": name, "RetentionPeriodHours": 24},
            "DeleteStream": {"StreamName": name},
            "CreateStream": {"StreamName": name, "ShardCount": 1},
        }
        for operation, members in (reads | writes).items():
            self.denied(nobody, f"kinesis:{operation}", arn, operation, **members)
        self.denied(nobody, "kinesis:ListStreams", "*", "ListStreams")
        for operation, members in writes.items():
            self.denied(reader, f"kinesis:{operation}", arn, operation, **members)
        for operation, members in reads.items():
            reader.call(operation, **members)
        reader.call("ListStreams")
        self.assertEqual([wire.data_of(record) for record in self.api.read_all(name)], [b"1"], "nothing of what was denied is there")

    def test_a_token_is_no_way_round(self):
        name = self.stream()
        self.api.call("SplitShard", StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
        page = self.api.call("ListShards", StreamName=name, MaxResults=1)
        self.denied(self.client("AKIANONE"), "kinesis:ListShards", ARN + name, "ListShards", NextToken=page["NextToken"])
        self.assertEqual(len(self.client("AKIAREAD").call("ListShards", NextToken=page["NextToken"])["Shards"]), 2)

    def test_a_stream_that_is_not_there_is_not_told(self):
        self.denied(self.client("AKIANONE"), "kinesis:PutRecord", ARN + "no", "PutRecord", StreamName="no", PartitionKey="k", Data=b"")
        with self.assertRaises(wire.Refused) as caught:
            self.client("AKIAREAD").call("DescribeStream", StreamName="no")
        self.assertEqual(caught.exception.type, "ResourceNotFoundException")

    def test_resources_variables_and_denials(self):
        mine, careful = self.client("AKIAMINE"), self.client("AKIACARE")
        name = self.stream("mine-1")
        mine.put(name, "k", b"1")
        other = self.stream("other-1")
        self.denied(mine, "kinesis:PutRecord", ARN + other, "PutRecord", StreamName=other, PartitionKey="k", Data=b"")
        deny = "with an explicit deny in an identity-based policy"
        self.denied(careful, "kinesis:DeleteStream", ARN + name, "DeleteStream", why=deny, StreamName=name)
        careful.put(name, "k", b"2")


    def test_where_a_client_is(self):
        self.assertIn("StreamNames", self.client("AKIANEAR").call("ListStreams"))
        with self.assertRaises(wire.Refused) as caught:
            self.client("AKIAFAR1").call("ListStreams")
        self.assertEqual(caught.exception.type, "AccessDeniedException")

    def test_a_policy_of_the_resource(self):
        name = self.stream()
        arn, nobody = ARN + name, self.client("AKIANONE")
        put = {"StreamName": name, "PartitionKey": "k", "Data": b"1"}

        def give(effect, principal):
            policy = statement(effect, "kinesis:PutRecord", arn, Principal=principal)
            self.api.call("PutResourcePolicy", ResourceARN=arn, Policy=json.dumps(policy))

        self.denied(nobody, "kinesis:PutResourcePolicy", arn, "PutResourcePolicy", ResourceARN=arn, Policy=json.dumps(ALL | {"Id": "x"} | {
            "Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}))  # fmt: skip
        give("Allow", {"AWS": "arn:aws:iam::000000000000:user/nothing"})
        nobody.call("PutRecord", **put)
        self.denied(nobody, "kinesis:DescribeStream", arn, "DescribeStream", StreamName=name)
        self.denied(self.client("AKIAREAD"), "kinesis:PutRecord", arn, "PutRecord", **put)
        give("Allow", {"AWS": "000000000000"})
        self.denied(nobody, "kinesis:PutRecord", arn, "PutRecord", **put)
        give("Deny", {"AWS": "000000000000"})
        with self.assertRaises(wire.Refused) as caught:
            self.api.call("PutRecord", **put)
        self.assertIn("with an explicit deny in a resource-based policy", caught.exception.text)
        self.api.call("DeleteResourcePolicy", ResourceARN=arn)
        self.api.call("PutRecord", **put)
        self.denied(nobody, "kinesis:GetResourcePolicy", arn, "GetResourcePolicy", ResourceARN=arn)

    def test_tags(self):
        tagger = self.client("AKIATAGS")
        with self.assertRaises(wire.Refused) as caught:
            tagger.call("CreateStream", StreamName="tags-1", ShardCount=1, Tags={"team": "red"})
        self.assertEqual(caught.exception.type, "AccessDeniedException")
        tagger.call("CreateStream", StreamName="tags-1", ShardCount=1, Tags={"team": "blue"})
        self.addCleanup(lambda: self.client("AKIAAPP1").call("DeleteStream", StreamName="tags-1"))
        tagger.put("tags-1", "k", b"1")
        other = self.stream(Tags={"team": "red"})
        with self.assertRaises(wire.Refused):
            tagger.put(other, "k", b"1")


class OtherServices(AccessTest):
    """Lease tables and metrics of clients are signed for their own services."""

    TABLES = "DynamoDB_20120810.ListTables"

    def ask(self, id, service, target, body=b"{}"):
        api = self.client(id, service=service)
        status, _, answer = api.request("POST", "/", body, api.signer.headers(api.host, body, target))
        return status, answer.decode()

    def test_lease_tables(self):
        self.assertEqual(self.ask("AKIAAPP1", "dynamodb", self.TABLES)[0], 200)
        status, text = self.ask("AKIANONE", "dynamodb", self.TABLES)
        self.assertEqual(status, 400)
        self.assertIn("is not authorized to perform: dynamodb:ListTables on resource: *", text)
        status, text = self.ask("AKIAREAD", "dynamodb", "DynamoDB_20120810.DescribeTable", b'{"TableName":"leases"}')
        self.assertIn("dynamodb:DescribeTable on resource: arn:aws:dynamodb:us-east-1:000000000000:table/leases", text)
        self.assertIn("scoped to correct service: 'dynamodb'", self.ask("AKIAAPP1", "kinesis", self.TABLES)[1])
        status, text = self.ask("AKIAOTHER", "dynamodb", self.TABLES)
        self.assertEqual((status, "UnrecognizedClientException" in text), (400, True))

    def test_a_forged_one_is_told_as_forged(self):
        body = b"Action=PutMetricData&Version=2010-08-01"
        forger = Signed(self.server.host, self.server.port, Signer("AKIAAPP1", "guessed-0123456789", service="monitoring"))
        headers = forger.signer.headers(forger.host, body, **{"content-type": "application/x-www-form-urlencoded"})
        status, _, answer = forger.request("POST", "/", body, headers)
        self.assertEqual((status, b"<Code>SignatureDoesNotMatch</Code>" in answer), (400, True), answer)
        status, _, answer = forger.request("POST", "/", body, {name: headers[name] for name in ("host", "content-type")})
        self.assertIn(b"<Code>MissingAuthenticationToken</Code>", answer)


class Reload(AccessTest):
    def tearDown(self):
        self.write(USERS)
        self.hangup()

    def hangup(self):
        before = self.server.output().count("credentials: ")
        os.kill(self.server.process.pid, signal.SIGHUP)
        self.assertTrue(eventually(lambda: self.server.output().count("credentials: ") > before))

    def allowed(self, id):
        api = self.client(id)
        return api.request("POST", "/", b"{}", self.list_streams(api))[0] == 200

    def test_a_rotation(self):
        self.write([user("app", key("AKIAAPP2"), key("AKIAAPP3"))])
        self.hangup()
        self.assertTrue(eventually(lambda: self.allowed("AKIAAPP3")))
        self.assertTrue(self.allowed("AKIAAPP2"))
        self.assertTrue(eventually(lambda: not self.allowed("AKIAAPP1")))
        with self.assertRaises(wire.Refused):
            self.api.call("ListStreams")

    def test_a_change_is_seen_without_a_signal(self):
        self.assertFalse(self.allowed("AKIANEW1"))
        self.write([*USERS, user("new", key("AKIANEW1"))])
        self.assertTrue(eventually(lambda: self.allowed("AKIANEW1")))

    def test_policies_change_under_a_connection(self):
        name = self.stream()
        self.api.put(name, "k", b"1")
        users = [user("app", key("AKIAAPP1"), policies=[statement("Allow", "kinesis:Get*", "*")]), user("root", key("AKIAROOT"))]
        self.write(users)
        self.hangup()

        def denied():
            try:
                self.api.put(name, "k", b"2")
            except wire.Refused as refused:
                return refused.type == "AccessDeniedException"
            return False

        self.assertTrue(eventually(denied))
        self.write(USERS)
        self.hangup()
        self.assertTrue(eventually(lambda: not denied()))

    def test_a_bad_file_changes_nothing(self):
        for text, why in [
            ("{", "EOF while parsing"),
            (json.dumps({"users": [{"name": "app", "keys": [{"id": "AKIAAPP1", "secret": "short"}]}]}), "users[0].keys[0].secret: must be"),
            (json.dumps({"user": []}), "user is not known"),
        ]:
            self.write(None, text=text)
            self.hangup()
            self.assertTrue(self.server.says(why), self.server.output())
            self.assertTrue(self.allowed("AKIAAPP1"))
        self.write(USERS, mode=0o644)
        self.hangup()
        self.assertTrue(self.server.says("can be read by others"))
        self.file.unlink()
        self.hangup()
        self.assertTrue(self.server.says("cannot be read"))
        self.assertTrue(self.allowed("AKIAAPP1"))


class Observers(AccessTest):
    def get(self, path, headers):
        self.api.http.request("GET", path, headers=headers)
        answer = self.api.http.getresponse()
        return answer.status, answer.read().decode()

    def signed(self, id, path):
        api = self.client(id)
        headers = api.signer.headers(api.host, b"", method="GET", path=path)
        status, _, body = api.request("GET", path, b"", headers)
        return status, body.decode()

    def test_metrics(self):
        self.assertEqual(self.get("/metrics", {})[0], 401)
        self.assertEqual(self.get("/metrics", {"Authorization": "Bearer " + TOKEN[:-1]})[0], 401)
        status, text = self.get("/metrics", {"Authorization": "Bearer " + TOKEN})
        self.assertEqual((status, "penstock_requests_total" in text), (200, True))
        self.assertEqual(self.signed("AKIAWATCH", "/metrics")[0], 200)
        self.assertEqual(self.signed("AKIANONE", "/metrics")[0], 403)
        self.assertEqual(self.signed("AKIAOTHER", "/metrics")[0], 401)

    def test_health(self):
        self.assertEqual(self.get("/health", {}), (200, '{"status":"ok"}\n'))
        self.assertEqual(self.get("/health", {"Authorization": "Bearer x"}), (200, '{"status":"ok"}\n'))
        for text in [self.get("/health", {"Authorization": "Bearer " + TOKEN})[1], self.signed("AKIAWATCH", "/health")[1]]:
            self.assertIn("percent_full", json.loads(text))


class Strangers(AccessTest):
    def test_a_head_must_come_soon(self):
        with socket.create_connection((self.server.host, int(self.server.port)), timeout=25) as slow:
            slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n")
            self.assertEqual(slow.recv(100), b"", "it is closed within the time of a socket's own deadline")

    def signed(self, carrier, operation, body):
        """Headers of a stream, beside those that every one has."""
        headers = signer("AKIAAPP1").headers(carrier.authority, body, wire.TARGET + operation)
        return {name.replace("-", "_"): headers[name] for name in ("x-amz-date", "authorization")}

    def test_bodies_of_strangers_do_not_keep_out_others(self):
        name = self.stream()
        # Its first request makes it known; a large body is not where it should begin.
        api = Signed(self.server.host, self.server.port, signer("AKIAAPP1"), timeout=15)
        api.call("ListStreams")
        # So does the first of the streams that a connection of HTTP/2 carries.
        carrier = frames.Connection(self.server.host, self.server.port, timeout=15)
        self.addCleanup(carrier.close)
        on_stream = lambda operation, body: carrier.answer(carrier.open(operation, body, **self.signed(carrier, operation, body)))
        self.assertEqual(on_stream("ListStreams", b"{}")[0], 200)
        body = json.dumps({"StreamName": name, "Data": wire.text_of(b"x" * 100_000), "PartitionKey": "k"}).encode()
        held = []
        for _ in range(600):
            # Each has a good key and a wrong signature, which shows when its body is whole: it never is.
            plain = socket.create_connection((self.server.host, int(self.server.port)), timeout=20)
            held.append(plain)
            headers = Signer("AKIAAPP1", "guessed-0123456789").headers(self.api.host, body, wire.TARGET + "PutRecord")
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            plain.sendall(f"POST / HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        for _ in range(20):
            self.assertEqual(api.send("PutRecord", body)[0], 200, "there are buffers for those who are known")
            self.assertEqual(on_stream("PutRecord", body)[0], 200, "and for their streams")
        api.close()
        for plain in held:
            plain.sendall(body[-1:])
        for plain in held:
            self.assertIn(b"InvalidSignatureException", plain.recv(4096))
            plain.close()


class Crowd(AccessTest):
    """A server that a crowd can fill."""

    flags = ("--cores", "0")
    slots = 4096

    def test_strangers_are_the_first_to_go(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < self.slots * 2:
            self.skipTest("too few files may be open")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.api.call("ListStreams")
        crowd = []
        for _ in range(self.slots + 100):
            crowd.append(socket.create_connection((self.server.host, int(self.server.port)), timeout=20))
            crowd[-1].sendall(b"POST")
        self.addCleanup(lambda: [each.close() for each in crowd])
        # The longest idle of all is the one that is known: it has been let alone, and newcomers are let in.
        self.api.call("ListStreams")
        self.assertTrue(eventually(self.newcomer))

    def newcomer(self):
        """Whether a new client is let in; where all slots are taken in one moment the kernel turns it away."""
        try:
            self.client("AKIAAPP2").call("ListStreams")
        except OSError:
            return False
        return True


class Starts(unittest.TestCase):
    def refused(self, text, *flags, mode=0o600):
        directory = new_directory()
        file = directory / "credentials.json"
        file.write_text(text)
        file.chmod(mode)
        server = Appliance("--credentials", file, *flags, data=directory / "data")
        self.addCleanup(server.remove)
        self.addCleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
        return server.refused()

    @unittest.skipIf(FOREIGN, "needs servers of its own")
    def test_a_bad_file_is_named(self):
        self.assertIn("credentials.json: users[0]: has no name", self.refused('{"users":[{}]}'))
        self.assertIn("can be read by others (mode 640)", self.refused("{}", mode=0o640))


if __name__ == "__main__":
    unittest.main()
