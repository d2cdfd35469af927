from appliance import ApiTest

SPACE = 1 << 128
FIRST = "shardId-000000000000"


def covers(shards):
    """Whether the shards' ranges cover every hash key exactly once."""
    ranges = sorted((int(s["HashKeyRange"]["StartingHashKey"]), int(s["HashKeyRange"]["EndingHashKey"])) for s in shards)
    ends = [-1] + [end for _, end in ranges]
    return all(start == end + 1 for (start, _), end in zip(ranges, ends)) and ends[-1] == SPACE - 1


class ListShards(ApiTest):
    def listed(self, **members):
        return [int(shard["ShardId"][-12:]) for shard in self.api.call("ListShards", **members)["Shards"]]

    def test_says_what_describe_stream_says(self):
        name = self.stream(shards=4)
        self.assertEqual(self.api.call("ListShards", StreamName=name)["Shards"], self.api.shards(name))

    def test_pages_by_token(self):
        name = self.stream(shards=5)
        first = self.api.call("ListShards", StreamName=name, MaxResults=2)
        self.assertEqual(len(first["Shards"]), 2)
        rest = self.api.call("ListShards", NextToken=first["NextToken"], MaxResults=10)
        self.assertEqual([s["ShardId"][-1] for s in rest["Shards"]], ["2", "3", "4"])
        self.assertNotIn("NextToken", rest)

    def test_starts_after_a_shard(self):
        name = self.stream(shards=4)
        self.assertEqual(self.listed(StreamName=name, ExclusiveStartShardId="shardId-000000000001"), [2, 3])
        after = {"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000002"}
        self.assertEqual(self.listed(StreamName=name, ShardFilter=after), [3])

    def test_a_token_stands_alone(self):
        name = self.stream(shards=3)
        token = self.api.call("ListShards", StreamName=name, MaxResults=1)["NextToken"]
        text = "NextToken and StreamName cannot be provided together."
        self.refuses("InvalidArgumentException", text, "ListShards", StreamName=name, NextToken=token)
        text = "Either NextToken or StreamName should be provided."
        self.refuses("InvalidArgumentException", text, "ListShards")
        self.assertEqual(self.refused("ListShards", NextToken="forged").type, "InvalidArgumentException")

    def test_filters_after_a_split(self):
        name = self.stream(shards=2)
        before = self.description(name)["StreamCreationTimestamp"]
        self.api.call("SplitShard", StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(1 << 126))
        self.wait_active(name)
        filters = {
            "AT_LATEST": [1, 2, 3],
            "FROM_TRIM_HORIZON": [0, 1, 2, 3],
            "AT_TRIM_HORIZON": [0, 1],
        }
        for kind, expect in filters.items():
            self.assertEqual(self.listed(StreamName=name, ShardFilter={"Type": kind}), expect, kind)
        from_then = {"Type": "FROM_TIMESTAMP", "Timestamp": before}
        self.assertEqual(self.listed(StreamName=name, ShardFilter=from_then), [0, 1, 2, 3])
        for kind in ("AT_LATEST", "AT_TRIM_HORIZON"):
            shards = self.api.call("ListShards", StreamName=name, ShardFilter={"Type": kind})["Shards"]
            self.assertTrue(covers(shards), f"{kind} leaves a hole: {shards}")

    def test_filters_need_their_members(self):
        name = self.stream()
        for filter in ({"Type": "AFTER_SHARD_ID"}, {"Type": "AT_TIMESTAMP"}, {"Type": "FROM_TIMESTAMP"}):
            self.assertEqual(self.refused("ListShards", StreamName=name, ShardFilter=filter).type, "InvalidArgumentException", filter)
        self.assertEqual(self.refused("ListShards", StreamName=name, ShardFilter={}).type, "ValidationException")

    def test_an_unknown_stream(self):
        self.assertEqual(self.refused("ListShards", StreamName="nobody").type, "ResourceNotFoundException")
