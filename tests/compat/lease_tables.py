"""`python3 tests/compat lease-tables`: lease tables and metrics through boto3, as the client library uses them through its own SDK."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "api"))

from appliance import Appliance  # noqa: E402
import boto3  # noqa: E402
from boto3.dynamodb.conditions import Attr  # noqa: E402
from botocore.config import Config  # noqa: E402

INDEX = "LeaseOwnerToLeaseKeyIndex"


class LeaseTables(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Appliance().start()
        cls.addClassCleanup(cls.server.remove)
        cls.options = {
            "endpoint_url": f"http://{cls.server.host}:{cls.server.port}", "region_name": "us-east-1",
            "aws_access_key_id": "test", "aws_secret_access_key": "test", "config": Config(retries={"total_max_attempts": 1}, read_timeout=30),
        }  # fmt: skip
        cls.client = boto3.client("dynamodb", **cls.options)

    def table(self):
        name = self.id().rsplit(".", 1)[-1]
        self.client.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=False,
            Tags=[{"Key": "a", "Value": "b"}],
        )
        self.client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 5})
        self.client.update_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("leaseOwner", "leaseKey")],
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
        return boto3.resource("dynamodb", **self.options).Table(name)

    def test_a_table_is_described(self):
        table = self.table()
        self.assertEqual(table.table_status, "ACTIVE")
        self.assertTrue(table.table_arn.endswith(f":table/{table.name}"))
        self.assertEqual(table.global_secondary_indexes[0]["IndexStatus"], "ACTIVE")
        self.assertEqual(table.creation_date_time.year > 2000, True)
        self.assertIn(table.name, self.client.list_tables()["TableNames"])
        table.delete()
        self.client.get_waiter("table_not_exists").wait(TableName=table.name, WaiterConfig={"Delay": 1, "MaxAttempts": 5})
        with self.assertRaises(self.client.exceptions.ResourceNotFoundException):
            table.scan()

    def test_every_type_goes_round(self):
        table = self.table()
        item = {
            "leaseKey": "k", "n": 7, "s": "é", "b": b"\x00\xff", "t": True, "z": None, "ss": {"a", "b"}, "ns": {1, 2}, "bs": {b"x"},
            "l": [1, "x", {"m": []}], "m": {"deep": {"er": 1}},
        }  # fmt: skip
        table.put_item(Item=item)
        self.assertEqual(table.get_item(Key={"leaseKey": "k"})["Item"], item)

    def test_conditions_are_kept_in_both_dialects(self):
        table = self.table()
        table.put_item(Item={"leaseKey": "k", "leaseCounter": 0, "leaseOwner": "w1"}, ConditionExpression=Attr("leaseKey").not_exists())
        with self.assertRaises(self.client.exceptions.ConditionalCheckFailedException) as caught:
            table.put_item(
                Item={"leaseKey": "k"},
                ConditionExpression=Attr("leaseKey").not_exists(),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        self.assertEqual(caught.exception.response["Item"]["leaseOwner"], {"S": "w1"})
        renew = {
            "Expected": {"leaseCounter": {"Value": 0}, "checkpointOwner": {"Exists": False}},
            "AttributeUpdates": {"leaseCounter": {"Action": "PUT", "Value": 1}},
        }
        table.update_item(Key={"leaseKey": "k"}, **renew)
        with self.assertRaises(self.client.exceptions.ConditionalCheckFailedException):
            table.update_item(Key={"leaseKey": "k"}, **renew)
        answer = table.update_item(
            Key={"leaseKey": "k"},
            UpdateExpression="SET leaseOwner = :w ADD leaseCounter :one REMOVE gone",
            ConditionExpression=(Attr("leaseCounter").eq(1) | Attr("leaseCounter").gt(5)) & Attr("leaseOwner").begins_with("w"),
            ExpressionAttributeValues={":w": "w2", ":one": 1},
            ReturnValues="ALL_NEW",
        )
        self.assertEqual(answer["Attributes"], {"leaseKey": "k", "leaseCounter": 2, "leaseOwner": "w2"})

    def test_pages_are_followed(self):
        table = self.table()
        for number in range(30):
            table.put_item(Item={"leaseKey": f"k{number:02}", "leaseOwner": f"w{number % 2}", "streamName": "s"})
        pages = self.client.get_paginator("scan").paginate(TableName=table.name, PaginationConfig={"PageSize": 7})
        self.assertEqual(sorted(item["leaseKey"]["S"] for page in pages for item in page["Items"]), [f"k{n:02}" for n in range(30)])
        pages = self.client.get_paginator("query").paginate(
            TableName=table.name,
            IndexName=INDEX,
            KeyConditionExpression="leaseOwner = :o",
            ExpressionAttributeValues={":o": {"S": "w1"}},
            PaginationConfig={"PageSize": 4},
        )
        self.assertEqual([item["leaseKey"]["S"] for page in pages for item in page["Items"]], [f"k{n:02}" for n in range(1, 30, 2)])
        found = table.scan(FilterExpression=Attr("streamName").eq("s"), Select="COUNT")
        self.assertEqual((found["Count"], found["ScannedCount"]), (30, 30))

    def test_a_transaction_tells_why_it_was_cancelled(self):
        table = self.table()
        put = {"Put": {"TableName": table.name, "Item": {"leaseKey": {"S": "k"}}, "ConditionExpression": "attribute_not_exists(leaseKey)"}}
        self.client.transact_write_items(TransactItems=[put])
        with self.assertRaises(self.client.exceptions.TransactionCanceledException) as caught:
            self.client.transact_write_items(TransactItems=[put])
        self.assertEqual(caught.exception.response["CancellationReasons"][0]["Code"], "ConditionalCheckFailed")

    def test_metrics_are_taken(self):
        cloudwatch = boto3.client("cloudwatch", **self.options)
        data = [{"MetricName": "m", "Unit": "Count", "Dimensions": [{"Name": "d", "Value": "v"}], "Value": number} for number in (1.5, 2)]
        cloudwatch.put_metric_data(Namespace="boto", MetricData=data)
        # Long ones are sent compressed.
        cloudwatch.put_metric_data(Namespace="boto", MetricData=data * 200)
        api = self.server.client()
        self.addCleanup(api.close)
        labels = '{namespace="boto",metric="m",unit="Count",dimension_d="v"}'
        self.assertIn(f"penstock_client_metric_sum_total{labels} {201 * 3.5}\n", api.get("/metrics")[1])
        with self.assertRaises(cloudwatch.exceptions.InvalidParameterValueException):
            cloudwatch.put_metric_data(Namespace=":x", MetricData=data)


if __name__ == "__main__":
    unittest.main()
