"""Lease tables and client metrics of a server with credentials: who is let in, and what a policy must allow."""

import json
import unittest

from appliance import FOREIGN, Appliance, new_directory
from signer import Signed, Signer

TABLE = "arn:aws:dynamodb:us-east-1:000000000000:table/"
SECRET = "secret-of-a-tester-0123456789"
METRICS = "GraniteServiceVersion20100801.PutMetricData"


def user(name, key, *statements):
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": to} for action, to in statements]}
    return {"name": name, "keys": [{"id": key, "secret": SECRET}], "policies": [policy]}


USERS = [
    user("all", "AKIALL", ("*", "*")),
    # As the client library's own policy has it: Query on indexes alone.
    user("app", "AKIAAPP", (["dynamodb:PutItem", "dynamodb:GetItem"], TABLE + "app"), ("dynamodb:Query", TABLE + "app/index/*"), ("cloudwatch:PutMetricData", "*")),
    user("streams", "AKIASTREAMS", ("kinesis:*", "*")),
]


@unittest.skipIf(FOREIGN, "needs a server of its own")
class LeaseAccess(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = new_directory()
        file = directory / "credentials.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"users": USERS}))
        cls.server = Appliance("--credentials", file, data=directory / "data").start()
        cls.addClassCleanup(cls.server.remove)

    def call(self, key, target, members, service="dynamodb", **headers):
        """(status, short type) of a signed call; unsigned where there is no key."""
        body = json.dumps(members).encode()
        host = f"{self.server.host}:{self.server.port}"
        signed = {"host": host, "x-amz-target": target, "content-type": "application/x-amz-json-1.0"}
        if key:
            signed = Signer(key, SECRET, service=service).headers(host, body, target)
        client = Signed(self.server.host, self.server.port, None)
        self.addCleanup(client.close)
        status, _, answer = client.request("POST", "/", body, signed | headers)
        return status, json.loads(answer).get("__type", "").rsplit("#", 1)[-1]

    def tables(self, key, operation, **members):
        return self.call(key, "DynamoDB_20120810." + operation, members)

    def make(self, name):
        members = {
            "TableName": name,
            "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
            "BillingMode": "PAY_PER_REQUEST",
        }
        self.assertIn(self.tables("AKIALL", "CreateTable", **members), [(200, ""), (400, "ResourceInUseException")])

    def test_a_request_needs_a_signature_for_its_service(self):
        self.make("app")
        describe = {"TableName": "app"}
        self.assertEqual(self.tables("AKIALL", "DescribeTable", **describe), (200, ""))
        for refused in [
            self.tables(None, "DescribeTable", **describe),
            self.tables("AKIUNKNOWN", "DescribeTable", **describe),
            self.call("AKIALL", "DynamoDB_20120810.DescribeTable", describe, service="kinesis"),
            self.call("AKIALL", "DynamoDB_20120810.DescribeTable", describe, **{"x-amz-date": "20200101T000000Z"}),
            self.call(None, METRICS, {}, service="monitoring"),
        ]:
            self.assertEqual(refused[0], 400)
            self.assertIn(refused[1], ["MissingAuthenticationTokenException", "UnrecognizedClientException", "InvalidSignatureException"])

    def test_a_policy_names_actions_and_tables(self):
        for name in ["app", "other"]:
            self.make(name)
        key = {"leaseKey": {"S": "k"}}
        put = lambda table: {"Put": {"TableName": table, "Item": key}}
        denied, allowed = (400, "AccessDeniedException"), (200, "")
        for user, expect in [("AKIAAPP", allowed), ("AKIALL", allowed), ("AKIASTREAMS", denied)]:
            self.assertEqual(self.tables(user, "PutItem", TableName="app", Item=key), expect, user)
            self.assertEqual(self.tables(user, "GetItem", TableName="app", Key=key), expect, user)
            self.assertEqual(self.tables(user, "TransactWriteItems", TransactItems=[put("app")]), expect, user)
        self.assertEqual(self.tables("AKIAAPP", "GetItem", TableName="other", Key=key), denied)
        self.assertEqual(self.tables("AKIAAPP", "TransactWriteItems", TransactItems=[put("app"), put("other")]), denied)
        self.assertEqual(self.tables("AKIAAPP", "ListTables"), denied)
        self.assertEqual(self.tables("AKIALL", "GetItem", TableName="other", Key=key), allowed, "the transaction did nothing")
        query = {"TableName": "app", "IndexName": "none", "KeyConditionExpression": "o = :o", "ExpressionAttributeValues": {":o": {"S": "x"}}}
        self.assertEqual(self.tables("AKIAAPP", "Query", **query), (400, "ValidationException"), "allowed, but there is no such index")
        self.assertEqual(self.tables("AKIASTREAMS", "Query", **query), denied)

    def test_metrics_need_a_permission(self):
        data = {"Namespace": "n", "MetricData": [{"MetricName": "m", "Value": 1.0}]}
        self.assertEqual(self.call("AKIAAPP", METRICS, data, service="monitoring"), (200, ""))
        self.assertEqual(self.call("AKIASTREAMS", METRICS, data, service="monitoring"), (400, "AccessDeniedException"))

    def test_a_denial_speaks_as_the_request(self):
        metrics, form = "GraniteServiceVersion20100801", "application/x-www-form-urlencoded"
        json_, cbor, xml = "application/x-amz-json-1.0", "application/cbor", "text/xml"
        for service, path, headers, answered, part in [
            ("monitoring", "/", {"x-amz-target": METRICS, "content-type": json_}, json_, b'"AccessDeniedException"'),
            ("monitoring", f"/service/{metrics}/operation/PutMetricData", {"content-type": cbor}, cbor, b"AccessDeniedException"),
            ("monitoring", "/", {"content-type": form}, xml, b"<Code>AccessDenied</Code>"),
            ("dynamodb", "/", {"x-amz-target": "DynamoDB_20120810.ListTables", "content-type": json_}, json_, b'"AccessDeniedException"'),
        ]:
            with self.subTest(headers=headers):
                host = f"{self.server.host}:{self.server.port}"
                signed = Signer("AKIASTREAMS", SECRET, service=service).headers(host, b"{}", path=path, **headers)
                client = Signed(self.server.host, self.server.port, None)
                self.addCleanup(client.close)
                status, got, body = client.request("POST", path, b"{}", signed)
                self.assertEqual((status, got["Content-Type"]), (400, answered))
                self.assertIn(part, body)
