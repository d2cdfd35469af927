from appliance import ApiTest


class DescribeStream(ApiTest):
    def test_shape(self):
        name = self.stream(shards=2)
        told = self.description(name)
        self.assertLessEqual(
            {
                "StreamName", "StreamARN", "StreamStatus", "StreamModeDetails", "Shards", "HasMoreShards", "RetentionPeriodHours",
                "StreamCreationTimestamp", "EnhancedMonitoring", "EncryptionType",
            },
            set(told),
        )  # fmt: skip
        self.assertRegex(told["StreamARN"], rf"^arn:aws:kinesis:[a-z0-9-]+:\d{{12}}:stream/{name}$")
        self.assertEqual(told["StreamModeDetails"], {"StreamMode": "PROVISIONED"})
        self.assertEqual((told["EncryptionType"], told["RetentionPeriodHours"]), ("NONE", 24))
        self.assertEqual(told["EnhancedMonitoring"], [{"ShardLevelMetrics": []}])
        self.assertNotIn("KeyId", told)
        self.assertIs(told["HasMoreShards"], False)
        self.assertIsInstance(told["StreamCreationTimestamp"], (int, float))
        self.assertLess(1.6e9, told["StreamCreationTimestamp"])

    def test_pages(self):
        name = self.stream(shards=5)
        first = self.api.call("DescribeStream", StreamName=name, Limit=2)["StreamDescription"]
        self.assertEqual([s["ShardId"][-1] for s in first["Shards"]], ["0", "1"])
        self.assertTrue(first["HasMoreShards"])
        members = {"StreamName": name, "ExclusiveStartShardId": "shardId-000000000002"}
        last = self.api.call("DescribeStream", **members)["StreamDescription"]
        self.assertEqual([s["ShardId"][-1] for s in last["Shards"]], ["3", "4"])
        self.assertFalse(last["HasMoreShards"])

    def test_a_page_has_at_most_100_shards(self):
        name = self.stream(shards=130)
        page = self.api.call("DescribeStream", StreamName=name, Limit=10000)["StreamDescription"]
        self.assertEqual((len(page["Shards"]), page["HasMoreShards"]), (100, True))
        self.assertEqual(len(self.api.shards(name)), 130)

    def test_constraints_are_named(self):
        self.invalid(
            "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
            "DescribeStream", StreamName="x", Limit=0,
        )  # fmt: skip
        self.invalid(
            "Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000",
            "DescribeStream", StreamName="x", Limit=10001,
        )  # fmt: skip

    def test_an_unknown_stream(self):
        error = self.refused("DescribeStream", StreamName="nobody-made-this")
        self.assertEqual(error.type, "ResourceNotFoundException")
        self.assertRegex(error.text, r"^Stream nobody-made-this under account \d{12} not found\.$")


class DescribeStreamSummary(ApiTest):
    def test_shape(self):
        name = self.stream(shards=3)
        told = self.api.call("DescribeStreamSummary", StreamName=name)["StreamDescriptionSummary"]
        full = self.description(name)
        for member in ("StreamName", "StreamARN", "StreamStatus", "RetentionPeriodHours", "StreamCreationTimestamp", "EnhancedMonitoring"):
            self.assertEqual(told[member], full[member], member)
        self.assertEqual((told["OpenShardCount"], told.get("ConsumerCount")), (3, 0))
        self.assertFalse({"Shards", "HasMoreShards"} & set(told))

    def test_only_open_shards_are_counted(self):
        name = self.stream(shards=1)
        self.api.call("SplitShard", StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
        self.wait_active(name)
        told = self.api.call("DescribeStreamSummary", StreamName=name)["StreamDescriptionSummary"]
        self.assertEqual(told["OpenShardCount"], 2)

    def test_an_unknown_stream(self):
        self.assertEqual(self.refused("DescribeStreamSummary", StreamName="nobody").type, "ResourceNotFoundException")
