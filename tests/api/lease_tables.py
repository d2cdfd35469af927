"""Lease tables: every request that the Kinesis Client Library makes of DynamoDB, and what a store must hold to for it."""

import json
import pathlib
import shutil
import subprocess
import threading

from appliance import BINARY, ApiTest, Appliance, Starts, new_directory
from wire import Refused

TARGET = "DynamoDB_20120810."
TYPE = "com.amazonaws.dynamodb.v20120810#"
INVALID = "com.amazon.coral.validate#ValidationException"
FAILED = TYPE + "ConditionalCheckFailedException"
INDEX = "LeaseOwnerToLeaseKeyIndex"


def s(text):
    return {"S": text}


def n(number):
    return {"N": str(number)}


class Tables:
    """A client of lease tables on one connection."""

    def __init__(self, api):
        self.api = api

    def send(self, operation, body, **headers):
        headers = {"X-Amz-Target": TARGET + operation, "Content-Type": "application/x-amz-json-1.0"} | headers
        return self.api.send(operation, body, headers)

    def call(self, operation, **members):
        status, headers, body = self.send(operation, json.dumps(members).encode())
        assert headers["Content-Type"] == "application/x-amz-json-1.0", headers
        if status != 200:
            raise Refused(status, body)
        return json.loads(body)

    def create(self, name, index=True):
        table = self.call(
            "CreateTable",
            TableName=name,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            DeletionProtectionEnabled=False,
            BillingMode="PAY_PER_REQUEST",
        )
        if index:
            self.index(name)
        return table

    def index(self, name):
        return self.call(
            "UpdateTable",
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "leaseOwner", "AttributeType": "S"}, {"AttributeName": "leaseKey", "AttributeType": "S"}],
            GlobalSecondaryIndexUpdates=[
                {
                    "Create": {
                        "IndexName": INDEX,
                        "KeySchema": [{"AttributeName": "leaseOwner", "KeyType": "HASH"}, {"AttributeName": "leaseKey", "KeyType": "RANGE"}],
                        "Projection": {"ProjectionType": "KEYS_ONLY"},
                    }
                }
            ],
        )

    def lease(self, name, key, owner=None, **attributes):
        item = {"leaseKey": s(key), "leaseCounter": n(0), "checkpoint": s("TRIM_HORIZON"), "entityType": s("LEASE")} | attributes
        if owner:
            item["leaseOwner"] = s(owner)
        self.call("PutItem", TableName=name, Item=item, Expected={"leaseKey": {"Exists": False}})
        return item

    def get(self, name, key):
        return self.call("GetItem", TableName=name, Key={"leaseKey": s(key)}, ConsistentRead=True).get("Item")

    def update(self, name, key, **members):
        return self.call("UpdateItem", TableName=name, Key={"leaseKey": s(key)}, **members)

    def all(self, operation, **members):
        """(items, pages) of every page."""
        items, pages = [], 0
        while True:
            page = self.call(operation, **members)
            items += page["Items"]
            pages += 1
            if not page.get("LastEvaluatedKey"):
                return items, pages
            members["ExclusiveStartKey"] = page["LastEvaluatedKey"]


class TablesTest(ApiTest):
    def setUp(self):
        super().setUp()
        self.tables = Tables(self.api)

    def table(self, index=True):
        name = self.name().replace(" ", "")
        self.tables.create(name, index)
        self.addCleanup(self.drop, name)
        return name

    def drop(self, name):
        if self.server.running():
            client = self.server.client()
            try:
                Tables(client).call("DeleteTable", TableName=name)
            except Refused:
                pass
            finally:
                client.close()

    def refuses(self, type, text, operation, **members):
        with self.assertRaises(Refused) as caught:
            self.tables.call(operation, **members)
        error = caught.exception
        fields = json.loads(error.body)
        self.assertEqual((error.status, fields["__type"]), (400, type), error)
        self.assertIn(text, error.text)
        return fields


class Table(TablesTest):
    def test_a_fresh_worker_finds_makes_and_indexes_its_table(self):
        name = self.name()
        look = {"operation": "DescribeTable", "TableName": name}
        self.refuses(TYPE + "ResourceNotFoundException", f"Requested resource not found: Table: {name} not found", **look)
        made = self.tables.create(name, index=False)["TableDescription"]
        self.addCleanup(self.drop, name)
        self.assertEqual((made["TableName"], made["TableStatus"]), (name, "ACTIVE"))
        self.refuses(
            TYPE + "ResourceInUseException",
            f"Table already exists: {name}",
            "CreateTable",
            TableName=name,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            BillingMode="PROVISIONED",
            ProvisionedThroughput={"ReadCapacityUnits": 10, "WriteCapacityUnits": 10},
        )
        table = self.tables.call("DescribeTable", TableName=name)["Table"]
        region, account = self.account_of_stream()
        self.assertEqual(table["TableArn"], f"arn:aws:dynamodb:{region}:{account}:table/{name}")
        self.assertEqual(table["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST")
        self.assertEqual((table["TableSizeBytes"], table["ItemCount"]), (0, 0))
        throughput = table["ProvisionedThroughput"]
        self.assertEqual((throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]), (0, 0))
        self.assertNotIn("GlobalSecondaryIndexes", table)
        index = self.tables.index(name)["TableDescription"]["GlobalSecondaryIndexes"][0]
        self.assertEqual((index["IndexName"], index["IndexStatus"]), (INDEX, "ACTIVE"))
        backups = {"TableName": name, "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
        for answer in [self.tables.call("UpdateContinuousBackups", **backups), self.tables.call("DescribeContinuousBackups", TableName=name)]:
            recovery = answer["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
            self.assertEqual(recovery["PointInTimeRecoveryStatus"], "ENABLED")
        self.assertIn(name, self.tables.call("ListTables")["TableNames"])

    def test_an_index_is_made_once_and_may_be_asked_for_again(self):
        name = self.table(index=False)
        self.tables.lease(name, "a", "worker-1")
        answers = []

        def start():
            client = self.server.client()
            try:
                answers.append(Tables(client).index(name)["TableDescription"]["GlobalSecondaryIndexes"])
            finally:
                client.close()

        # Workers of one application that start at the same instant; one that is refused never takes a lease.
        workers = [threading.Thread(target=start) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual([[(index["IndexName"], index["IndexStatus"]) for index in each] for each in answers], [[(INDEX, "ACTIVE")]] * 8)
        self.assertEqual([item["leaseKey"] for item in self.owned(name, "worker-1")], [s("a")])
        other = {"IndexName": INDEX, "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}], "Projection": {"ProjectionType": "KEYS_ONLY"}}
        self.refuses(
            INVALID,
            f"Attempting to create an index which already exists: {INDEX}",
            "UpdateTable",
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            GlobalSecondaryIndexUpdates=[{"Create": other}],
        )

    def account_of_stream(self):
        arn = self.description(self.stream())["StreamARN"].split(":")
        return arn[3], arn[4]


    def test_an_index_of_a_full_table_has_its_items(self):
        name = self.table(index=False)
        self.tables.lease(name, "a", "worker-1")
        self.tables.lease(name, "b")
        self.tables.index(name)
        self.assertEqual([item["leaseKey"] for item in self.owned(name, "worker-1")], [s("a")])

    def owned(self, name, owner, **members):
        return self.tables.all(
            "Query",
            TableName=name,
            IndexName=INDEX,
            KeyConditionExpression="leaseOwner = :leaseOwner",
            ExpressionAttributeValues={":leaseOwner": s(owner)},
            **members,
        )[0]

    def test_the_index_follows_its_items(self):
        name = self.table()
        for key in ["c", "a", "b"]:
            self.tables.lease(name, key, "worker-1")
        keys = lambda owner, **members: [item["leaseKey"]["S"] for item in self.owned(name, owner, **members)]
        self.assertEqual(keys("worker-1"), ["a", "b", "c"])
        self.assertEqual(keys("worker-1", ScanIndexForward=False, Limit=1), ["c", "b", "a"])
        self.assertEqual(self.owned(name, "worker-1")[0], {"leaseKey": s("a"), "leaseOwner": s("worker-1")})
        self.tables.update(name, "a", AttributeUpdates={"leaseOwner": {"Action": "PUT", "Value": s("worker-2")}})
        self.tables.update(name, "b", AttributeUpdates={"leaseOwner": {"Action": "DELETE"}})
        self.tables.call("DeleteItem", TableName=name, Key={"leaseKey": s("c")})
        self.assertEqual((keys("worker-1"), keys("worker-2")), ([], ["a"]))
        index = {"TableName": name, "KeyConditionExpression": "leaseOwner = :o", "ExpressionAttributeValues": {":o": s("w")}}
        self.refuses(INVALID, "specified index: other", "Query", IndexName="other", **index)
        self.refuses(INVALID, "missed key schema element: leaseKey", "Query", **index)
        wrong = {"leaseOwner": {"Action": "PUT", "Value": n(1)}}
        self.refuses(INVALID, "Type mismatch for Index Key", "UpdateItem", TableName=name, Key={"leaseKey": s("a")}, AttributeUpdates=wrong)

    def test_a_protected_table_stays(self):
        name = self.table()
        self.tables.call("UpdateTable", TableName=name, DeletionProtectionEnabled=True)
        self.refuses(INVALID, "protected against deletion", "DeleteTable", TableName=name)
        self.tables.call("UpdateTable", TableName=name, DeletionProtectionEnabled=False)
        self.assertEqual(self.tables.call("DeleteTable", TableName=name)["TableDescription"]["TableStatus"], "DELETING")
        self.refuses(TYPE + "ResourceNotFoundException", "Requested resource not found", "GetItem", TableName=name, Key={"leaseKey": s("a")})


class Lease(TablesTest):
    """The legacy dialect, as the lease code speaks it."""

    def test_a_lease_is_made_once(self):
        name = self.table()
        made = self.tables.lease(name, "shard-1", throughputKBps=n("1.0E-4"), parentShardId={"SS": ["b", "a"]}, state={"B": "AP8="})
        self.refuses(FAILED, "The conditional request failed", "PutItem", TableName=name, Item=made, Expected={"leaseKey": {"Exists": False}})
        read = self.tables.get(name, "shard-1")
        self.assertEqual(read, made | {"throughputKBps": n("0.0001"), "parentShardId": {"SS": ["a", "b"]}})
        self.assertIsNone(self.tables.get(name, "shard-2"))

    def test_a_renewal_needs_the_counter(self):
        name = self.table()
        self.tables.lease(name, "shard-1", "worker-1")
        renewal = {
            "Expected": {"leaseCounter": {"Value": n(0)}, "checkpointOwner": {"Exists": False}},
            "AttributeUpdates": {"leaseCounter": {"Action": "PUT", "Value": n(1)}, "throughputKBps": {"Action": "PUT", "Value": n("2.50")}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        self.assertEqual(self.tables.update(name, "shard-1", **renewal), {})
        failed = self.refuses(FAILED, "", "UpdateItem", TableName=name, Key={"leaseKey": s("shard-1")}, **renewal)
        self.assertEqual(failed["Item"], self.tables.get(name, "shard-1"))
        self.assertEqual((failed["Item"]["leaseCounter"], failed["Item"]["throughputKBps"]), (n(1), n("2.5")))
        del renewal["ReturnValuesOnConditionCheckFailure"]
        failed = self.refuses(FAILED, "", "UpdateItem", TableName=name, Key={"leaseKey": s("shard-1")}, **renewal)
        self.assertNotIn("Item", failed)

    def test_a_lease_is_assigned_handed_off_and_dropped(self):
        name = self.table()
        lease = self.tables.lease(name, "shard-1")
        new = self.tables.update(
            name,
            "shard-1",
            Expected={"leaseOwner": {"Exists": False}, "checkpointOwner": {"Exists": False}, "leaseKey": {"Exists": True, "Value": s("shard-1")}},
            AttributeUpdates={
                "leaseOwner": {"Action": "PUT", "Value": s("worker-1")},
                "checkpointOwner": {"Action": "DELETE"},
                "ownerSwitchesSinceCheckpoint": {"Action": "ADD", "Value": n(1)},
                "leaseCounter": {"Action": "ADD", "Value": n(9)},
            },
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )["Attributes"]
        self.assertEqual(new, lease | {"leaseOwner": s("worker-1"), "ownerSwitchesSinceCheckpoint": n(1), "leaseCounter": n(9)})
        hand_off = {
            "Expected": {"leaseOwner": {"Value": s("worker-1")}, "checkpointOwner": {"Exists": False}},
            "AttributeUpdates": {"leaseOwner": {"Action": "PUT", "Value": s("worker-2")}, "checkpointOwner": {"Action": "PUT", "Value": s("worker-1")}},
            "ReturnValues": "ALL_NEW",
        }
        self.assertEqual(self.tables.update(name, "shard-1", **hand_off)["Attributes"]["checkpointOwner"], s("worker-1"))
        drop = {
            "Expected": {"leaseOwner": {"Value": s("worker-2")}, "checkpointOwner": {"Value": s("worker-1")}},
            "AttributeUpdates": {"checkpointOwner": {"Action": "DELETE"}, "leaseOwner": {"Action": "DELETE"}, "leaseCounter": {"Action": "ADD", "Value": n(1)}},
            "ReturnValues": "UPDATED_NEW",
        }
        self.assertEqual(self.tables.update(name, "shard-1", **drop)["Attributes"], {"leaseCounter": n(10)})
        self.assertEqual(set(self.tables.get(name, "shard-1")), set(lease) | {"ownerSwitchesSinceCheckpoint"})

    def test_an_update_of_a_missing_item_is_guarded_by_its_key(self):
        name = self.table()
        update = {"AttributeUpdates": {"childShardIds": {"Action": "PUT", "Value": {"SS": ["x"]}}}}
        guard = {"Expected": {"leaseKey": {"Exists": True, "Value": s("none")}}}
        self.refuses(FAILED, "", "UpdateItem", TableName=name, Key={"leaseKey": s("none")}, **update, **guard)
        self.assertIsNone(self.tables.get(name, "none"))
        self.tables.update(name, "none", **update)
        self.assertEqual(self.tables.get(name, "none"), {"leaseKey": s("none"), "childShardIds": {"SS": ["x"]}})
        for _ in range(2):
            self.assertEqual(self.tables.call("DeleteItem", TableName=name, Key={"leaseKey": s("none")}), {})


class Leader(TablesTest):
    """Expressions, as the leader's lock speaks them."""

    def test_the_lock_is_taken_kept_and_released(self):
        name = self.table()
        item = lambda rvn: {"leaseKey": s("Leader"), "entityType": s("LEADER"), "ownerName": s("w1"), "leaseDuration": s("120000"), "recordVersionNumber": s(rvn)}
        acquire = {
            "TableName": name,
            "Item": item("v1"),
            "ConditionExpression": "attribute_not_exists(#pk)",
            "ExpressionAttributeNames": {"#pk": "leaseKey"},
        }
        self.assertEqual(self.tables.call("PutItem", **acquire), {})
        self.refuses(FAILED, "", "PutItem", **acquire)
        beat = {
            "UpdateExpression": "SET #ld = :ld, #rvn = :newRvn",
            "ConditionExpression": "attribute_exists(#pk) AND #rvn = :rvn AND #on = :on",
            "ExpressionAttributeNames": {"#ld": "leaseDuration", "#rvn": "recordVersionNumber", "#pk": "leaseKey", "#on": "ownerName"},
            "ExpressionAttributeValues": {":ld": s("120000"), ":newRvn": s("v2"), ":rvn": s("v1"), ":on": s("w1")},
        }
        self.tables.update(name, "Leader", **beat)
        self.refuses(FAILED, "", "UpdateItem", TableName=name, Key={"leaseKey": s("Leader")}, **beat)
        take = {
            "TableName": name,
            "Item": item("v3") | {"ownerName": s("w2")},
            "ConditionExpression": "attribute_exists(#pk) AND #rvn = :rvn",
            "ExpressionAttributeNames": {"#pk": "leaseKey", "#rvn": "recordVersionNumber"},
            "ExpressionAttributeValues": {":rvn": s("v2")},
        }
        self.tables.call("PutItem", **take)
        release = {
            "TableName": name,
            "Key": {"leaseKey": s("Leader")},
            "ConditionExpression": beat["ConditionExpression"],
            "ExpressionAttributeNames": {"#rvn": "recordVersionNumber", "#pk": "leaseKey", "#on": "ownerName"},
            "ExpressionAttributeValues": {":rvn": s("v3"), ":on": s("w1")},
        }
        self.refuses(FAILED, "", "DeleteItem", **release)
        release["ExpressionAttributeValues"][":on"] = s("w2")
        self.tables.call("DeleteItem", **release)
        self.assertIsNone(self.tables.get(name, "Leader"))

    def test_worker_stats_are_kept_and_expire(self):
        name = self.table()
        attributes = {"entityType": s("WORKER_METRIC_STATS"), "lut": n(1764000000), "sts": {"M": {"C": {"L": [n("0.5")]}}}}
        members = {
            "UpdateExpression": "SET " + ", ".join(f"#AMZN_MAPPED_{key} = :AMZN_MAPPED_{key}" for key in attributes),
            "ExpressionAttributeNames": {f"#AMZN_MAPPED_{key}": key for key in attributes},
            "ExpressionAttributeValues": {f":AMZN_MAPPED_{key}": value for key, value in attributes.items()},
            "ReturnValues": "ALL_NEW",
        }
        self.assertEqual(self.tables.update(name, "w1", **members)["Attributes"], attributes | {"leaseKey": s("w1")})
        self.tables.lease(name, "shard-1")
        scan = {"TableName": name, "FilterExpression": "#et = :etVal", "ExpressionAttributeNames": {"#et": "entityType"}}
        page = self.tables.call("Scan", ExpressionAttributeValues={":etVal": s("WORKER_METRIC_STATS")}, **scan)
        self.assertEqual((page["Count"], page["ScannedCount"], page["Items"][0]["leaseKey"]), (1, 2, s("w1")))
        expire = {
            "TableName": name,
            "Key": {"leaseKey": s("w1")},
            "ConditionExpression": "#key = :value AND attribute_exists (leaseKey)",
            "ExpressionAttributeNames": {"#key": "lut"},
        }
        self.refuses(FAILED, "", "DeleteItem", ExpressionAttributeValues={":value": n(1)}, **expire)
        self.tables.call("DeleteItem", ExpressionAttributeValues={":value": n("1764000000.0")}, **expire)
        self.assertIsNone(self.tables.get(name, "w1"))

    def test_an_old_table_is_moved_in_transactions(self):
        name, old = self.table(), self.table(index=False)
        self.tables.lease(name, "Leader", ownerName=s("w1"))
        self.tables.lease(name, "Migration", tm=s("PENDING"))
        for key in ["k1", "k2"]:
            self.tables.lease(old, key)
        check = lambda owner: {
            "ConditionCheck": {
                "TableName": name,
                "Key": {"leaseKey": s("Leader")},
                "ConditionExpression": "ownerName = :owner",
                "ExpressionAttributeValues": {":owner": s(owner)},
            }
        }
        put = lambda key: {"Put": {"TableName": name, "Item": {"leaseKey": s(key)}, "ConditionExpression": "attribute_not_exists(leaseKey)"}}
        delete = lambda key: {"Delete": {"TableName": old, "Key": {"leaseKey": s(key)}}}
        cancelled = self.refuses_cancelled([check("w2"), put("k1"), delete("k1")])
        self.assertEqual([reason["Code"] for reason in cancelled["CancellationReasons"]], ["ConditionalCheckFailed", "None", "None"])
        self.assertIsNone(self.tables.get(name, "k1"))
        self.assertEqual(self.tables.call("TransactWriteItems", TransactItems=[check("w1"), put("k1"), delete("k1"), put("k2"), delete("k2")]), {})
        self.assertEqual((self.tables.get(name, "k2"), self.tables.get(old, "k2")), ({"leaseKey": s("k2")}, None))
        self.refuses_cancelled([check("w1"), put("k1"), delete("k1")])
        both = [put("k3"), {"Delete": {"TableName": name, "Key": {"leaseKey": s("k3")}}}]
        self.refuses(INVALID, "multiple operations on one item", "TransactWriteItems", TransactItems=both)

    def refuses_cancelled(self, items):
        return self.refuses(TYPE + "TransactionCanceledException", "Transaction cancelled", "TransactWriteItems", TransactItems=items)


class Pages(TablesTest):
    def test_segments_and_pages_have_every_item_once(self):
        name = self.table()
        keys = [f"account:stream-{i % 3}:1:shardId-{i:012}" for i in range(300)]
        for i, key in enumerate(keys):
            self.tables.lease(name, key, f"worker-{i % 2}", filler=s("x" * 2000), streamName=s(f"stream-{i % 3}"))
        items, pages = self.tables.all("Scan", TableName=name)
        self.assertEqual(sorted(item["leaseKey"]["S"] for item in items), sorted(keys))
        self.assertGreater(pages, 1, "an answer has a bound")
        parts = [self.tables.all("Scan", TableName=name, Segment=i, TotalSegments=4)[0] for i in range(4)]
        self.assertEqual(sorted(item["leaseKey"]["S"] for part in parts for item in part), sorted(keys))
        self.assertTrue(all(parts), "every segment has some of 300")
        of_one = {"FilterExpression": "streamName = :streamName", "ExpressionAttributeValues": {":streamName": s("stream-1")}}
        items, _ = self.tables.all("Scan", TableName=name, Limit=7, **of_one)
        self.assertEqual(sorted(item["leaseKey"]["S"] for item in items), sorted(keys[1::3]))
        mine = {"IndexName": INDEX, "KeyConditionExpression": "leaseOwner = :o", "ExpressionAttributeValues": {":o": s("worker-1")}}
        items, pages = self.tables.all("Query", TableName=name, Limit=20, **mine)
        self.assertEqual([item["leaseKey"]["S"] for item in items], sorted(keys[1::2]))
        self.assertEqual(pages, 8)
        from_2 = {"IndexName": INDEX, "KeyConditionExpression": "leaseOwner = :o AND begins_with(leaseKey, :k)"}
        values = {":o": s("worker-1"), ":k": s("account:stream-2")}
        items, _ = self.tables.all("Query", TableName=name, ExpressionAttributeValues=values, **from_2)
        self.assertEqual([item["leaseKey"]["S"] for item in items], sorted(key for key in keys[1::2] if "stream-2" in key))


class Refusals(TablesTest):
    def test_malformed_requests_are_refused_and_change_nothing(self):
        name = self.table()
        key = {"leaseKey": s("a")}
        update = {"operation": "UpdateItem", "TableName": name, "Key": key}
        invalid = lambda text, **members: self.refuses(INVALID, text, **members)
        invalid("does not match the schema", **update | {"Key": {"other": s("a")}})
        invalid("does not match the schema", **update | {"Key": {"leaseKey": n(1)}})
        invalid("empty string value", **update | {"Key": {"leaseKey": s("")}})
        invalid("maximum size limit", **update | {"Key": {"leaseKey": s("x" * 2049)}})
        invalid("part of the key", AttributeUpdates={"leaseKey": {"Value": s("b")}}, **update)
        invalid("Member must not be null", operation="GetItem", TableName=name)
        invalid("Syntax error", UpdateExpression="SET a", **update)
        invalid("Syntax error", UpdateExpression="SET a = b c", **update)
        invalid("value used in expression is not defined; attribute value: :v", UpdateExpression="SET a = :v", **update)
        invalid("unused in expressions: keys: {:v}", UpdateExpression="REMOVE a", ExpressionAttributeValues={":v": s("x")}, **update)
        invalid("incorrect data type", UpdateExpression="ADD a :v", ExpressionAttributeValues={":v": s("x")}, **update)
        invalid("both expression and non-expression", UpdateExpression="REMOVE a", Expected={"a": {"Exists": False}}, **update)
        invalid("not a DynamoDB", UpdateExpression="REMOVE a.b", **update)
        invalid("not a DynamoDB", operation="Scan", TableName=name, ScanFilter={"a": {"ComparisonOperator": "NULL"}})
        invalid("numeric value: x", operation="PutItem", TableName=name, Item=key | {"a": n("x")})
        invalid("38 significant digits", operation="PutItem", TableName=name, Item=key | {"a": n("1" * 39)})
        invalid("is empty", operation="PutItem", TableName=name, Item=key | {"a": {}})
        invalid("maximum allowed size", operation="PutItem", TableName=name, Item=key | {"a": s("x" * 70_000)})
        unknown = "com.amazon.coral.service#UnknownOperationException"
        self.refuses(unknown, "not a DynamoDB", "BatchGetItem", RequestItems={})
        for body in [b"", b"{", b"[]", b"\xff", b'{"TableName":', b"{}x", b'{"TableName":7}', b"[" * 100_000]:
            status, headers, answer = self.tables.send("DescribeTable", body)
            self.assertEqual((status, json.loads(answer)["__type"]), (400, "com.amazon.coral.service#SerializationException"), body[:20])
        self.assertIsNone(self.tables.get(name, "a"))

    def test_an_unsigned_part_is_told_as_by_the_other_service(self):
        status, _, body = self.tables.send("ListTables", b"{}", Authorization="AWS4-HMAC-SHA256 Credential=x")
        self.assertEqual((status, json.loads(body)["__type"]), (400, "IncompleteSignatureException"))


class Racing(TablesTest):
    def test_of_racing_writes_one_wins(self):
        name = self.table()
        self.tables.lease(name, "shard-1")
        won, rounds, clients = [], 30, 8
        barrier = threading.Barrier(clients)

        def race(me):
            api = self.server.client()
            tables = Tables(api)
            for counter in range(rounds):
                barrier.wait(60)
                take = {
                    "Expected": {"leaseCounter": {"Value": n(counter)}},
                    "AttributeUpdates": {"leaseCounter": {"Value": n(counter + 1)}, "leaseOwner": {"Value": s(f"w{me}")}},
                }
                try:
                    tables.update(name, "shard-1", **take)
                    won.append((counter, me))
                except Refused as refused:
                    if refused.type != FAILED:
                        raise
            api.close()

        threads = [threading.Thread(target=race, args=(me,)) for me in range(clients)]
        [thread.start() for thread in threads]
        [thread.join(120) for thread in threads]
        self.assertEqual([counter for counter, _ in sorted(won)], list(range(rounds)), "each counter was taken once")
        last = self.tables.get(name, "shard-1")
        self.assertEqual((last["leaseCounter"], last["leaseOwner"]), (n(rounds), s(f"w{sorted(won)[-1][1]}")))

    def test_racing_additions_add_up(self):
        name = self.table()

        def add(_):
            api = self.server.client()
            for _ in range(50):
                Tables(api).update(name, "sum", AttributeUpdates={"n": {"Action": "ADD", "Value": n("0.1")}})
            api.close()

        threads = [threading.Thread(target=add, args=(i,)) for i in range(6)]
        [thread.start() for thread in threads]
        [thread.join(120) for thread in threads]
        self.assertEqual(self.tables.get(name, "sum")["n"], n(30))


class Durable(Starts, TablesTest):
    own = True

    def test_acknowledged_writes_outlive_a_kill(self):
        tables = Tables(self.api)
        tables.create("leases-kept")
        acknowledged = {}
        for i in range(200):
            key = f"shard-{i % 20}"
            if i < 20:
                tables.lease("leases-kept", key, f"worker-{i % 3}")
            tables.update("leases-kept", key, AttributeUpdates={"leaseCounter": {"Action": "ADD", "Value": n(1)}})
            acknowledged[key] = acknowledged.get(key, 0) + 1
            if i == 100:
                tables = self.again(self.server.kill)
        tables.call("DeleteItem", TableName="leases-kept", Key={"leaseKey": s("shard-0")})
        for end in [self.server.kill, self.server.stop]:
            tables = self.again(end)
            items, _ = tables.all("Scan", TableName="leases-kept")
            counters = {item["leaseKey"]["S"]: int(item["leaseCounter"]["N"]) for item in items}
            self.assertEqual(counters, {key: count for key, count in acknowledged.items() if key != "shard-0"})
            mine = {"KeyConditionExpression": "leaseOwner = :o", "ExpressionAttributeValues": {":o": s("worker-0")}}
            owned, _ = tables.all("Query", TableName="leases-kept", IndexName=INDEX, **mine)
            self.assertEqual(len(owned), 6, "the index is there again")

    def test_a_snapshot_has_the_tables(self):
        tables = Tables(self.api)
        tables.create("leases-copied")
        made = tables.lease("leases-copied", "shard-1", "worker-1")
        scratch = pathlib.Path(new_directory())
        self.addCleanup(shutil.rmtree, scratch, True)
        for command in [["snapshot", scratch / "s", "--data", self.server.data], ["restore", scratch / "s", "--data", scratch / "home"]]:
            done = subprocess.run([BINARY, *map(str, command)], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)
            tables.update("leases-copied", "shard-1", AttributeUpdates={"leaseCounter": {"Action": "ADD", "Value": n(1)}})
        copy = Appliance(disk=None, data=scratch / "home")
        self.addCleanup(copy.remove)
        self.assertEqual(Tables(self.ready(copy)).get("leases-copied", "shard-1"), made)
        self.assertEqual(tables.get("leases-copied", "shard-1")["leaseCounter"], n(2))

    def again(self, end):
        end()
        self.server.start()
        self.api = self.server.client()
        return Tables(self.api)


class Bounds(TablesTest):
    own = True

    def test_all_tables_together_are_bounded_and_a_full_store_renews(self):
        name = self.table()
        filler = s("x" * 60_000)
        made = 0
        with self.assertRaises(Refused) as caught:
            for made in range(400):
                self.tables.lease(name, f"shard-{made:03}", counter=n(1), filler=filler)
        self.assertEqual(json.loads(caught.exception.body)["__type"], TYPE + "LimitExceededException")
        self.assertIn("16777216 bytes at most", caught.exception.text)
        self.assertGreater(made, 250)
        for counter in range(1, 200):
            self.tables.update(
                name,
                f"shard-{counter % 200:03}",
                Expected={"counter": {"Value": n(1)}},
                AttributeUpdates={"counter": {"Action": "ADD", "Value": n(counter)}},
            )
        for key in range(10):
            self.tables.call("DeleteItem", TableName=name, Key={"leaseKey": s(f"shard-{key:03}")})
        self.tables.lease(name, "again", filler=filler)
        self.server.kill()
        self.server.start()
        self.api = self.server.client()
        self.assertEqual(Tables(self.api).call("DescribeTable", TableName=name)["Table"]["ItemCount"], made - 10 + 1)
