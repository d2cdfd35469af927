"""StreamARN is taken wherever StreamName is."""

from appliance import ApiTest

FIRST = "shardId-000000000000"


class StreamArn(ApiTest):
    def setUp(self):
        super().setUp()
        self.name_ = self.stream(shards=2, Tags={"a": "b"})
        self.arn = self.description(self.name_)["StreamARN"]

    def test_in_place_of_the_name(self):
        arn = {"StreamARN": self.arn}
        self.assertEqual(self.api.call("DescribeStream", **arn)["StreamDescription"]["StreamName"], self.name_)
        self.assertEqual(self.api.call("DescribeStreamSummary", **arn)["StreamDescriptionSummary"]["OpenShardCount"], 2)
        self.assertEqual(len(self.api.call("ListShards", **arn)["Shards"]), 2)
        self.assertEqual(self.api.call("ListTagsForStream", **arn)["Tags"], [{"Key": "a", "Value": "b"}])
        self.api.call("PutRecord", PartitionKey="k", Data="AA==", ExplicitHashKey="0", **arn)
        self.api.call("PutRecords", Records=[{"PartitionKey": "k", "Data": "AA==", "ExplicitHashKey": "0"}], **arn)
        iterator = self.api.call("GetShardIterator", ShardId=FIRST, ShardIteratorType="TRIM_HORIZON", **arn)["ShardIterator"]
        self.assertEqual(len(self.api.call("GetRecords", ShardIterator=iterator, **arn)["Records"]), 2)
        self.api.call("IncreaseStreamRetentionPeriod", RetentionPeriodHours=30, **arn)
        self.wait_active(self.name_)
        self.api.call("DecreaseStreamRetentionPeriod", RetentionPeriodHours=24, **arn)
        self.wait_active(self.name_)
        self.api.call("SplitShard", ShardToSplit=FIRST, NewStartingHashKey="10", **arn)
        self.wait_active(self.name_)
        self.api.call("MergeShards", ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000003", **arn)
        self.wait_active(self.name_)
        self.assertEqual(self.api.call("DeleteStream", **arn), {})

    def test_beside_the_name(self):
        told = self.api.call("DescribeStream", StreamName=self.name_, StreamARN=self.arn)["StreamDescription"]
        self.assertEqual(told["StreamName"], self.name_)
        other = self.stream()
        error = self.refused("DescribeStream", StreamName=other, StreamARN=self.arn)
        self.assertEqual(error.type, "InvalidArgumentException")

    def test_neither(self):
        self.assertEqual(self.refused("DescribeStream").type, "InvalidArgumentException")
        self.assertEqual(self.refused("PutRecord", PartitionKey="k", Data="AA==").type, "InvalidArgumentException")
        self.assertEqual(
            self.refused("PutRecords", Records=[{"PartitionKey": "k", "Data": "AA=="}]).type, "InvalidArgumentException"
        )

    def test_of_another_account_or_region(self):
        parts = self.arn.split(":")
        for index, value in ((4, "999999999999"), (3, "mars-north-1")):
            wrong = ":".join(parts[:index] + [value] + parts[index + 1 :])
            error = self.refused("DescribeStream", StreamARN=wrong)
            self.assertIn(error.type, ("ResourceNotFoundException", "InvalidArgumentException", "AccessDeniedException"), wrong)

    def test_malformed(self):
        for wrong in ("x", "arn:aws:sqs:us-east-1:000000000000:stream/x", self.arn.replace("stream/", "topic/")):
            self.assertEqual(self.refused("DescribeStream", StreamARN=wrong).type, "ValidationException", wrong)
