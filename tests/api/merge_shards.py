from appliance import ApiTest
from wire import data_of

SPACE = 1 << 128


def shard_id(number):
    return f"shardId-{number:012}"


class MergeShards(ApiTest):
    def merge(self, name, lower, upper):
        self.api.call("MergeShards", StreamName=name, ShardToMerge=shard_id(lower), AdjacentShardToMerge=shard_id(upper))
        self.wait_active(name)

    def test_lineage_and_the_end_of_both_parents(self):
        name = self.stream(shards=3)
        for n in range(30):
            self.api.put(name, str(n), b"old")
        self.merge(name, 1, 2)
        *parents, child = self.api.shards(name)
        self.assertEqual((child["ParentShardId"], child["AdjacentParentShardId"]), (shard_id(1), shard_id(2)))
        self.assertEqual(child["HashKeyRange"], {"StartingHashKey": str(SPACE // 3), "EndingHashKey": str(SPACE - 1)})
        self.assertNotIn("EndingSequenceNumber", parents[0]["SequenceNumberRange"])
        start = int(child["SequenceNumberRange"]["StartingSequenceNumber"])
        for parent in parents[1:]:
            self.assertGreater(start, int(parent["SequenceNumberRange"]["EndingSequenceNumber"]))
            _, last = self.api.drain(self.api.iterator(name, parent["ShardId"]))
            self.assertIsNone(last.get("NextShardIterator"))
            (told,) = last["ChildShards"]
            self.assertEqual((told["ShardId"], sorted(told["ParentShards"])), (shard_id(3), [shard_id(1), shard_id(2)]))
        self.assertEqual(sum(len(self.api.read_all(name, shard_id(n))) for n in range(4)), 30)

    def test_new_records_go_to_the_child(self):
        name = self.stream(shards=2)
        old = self.api.put(name, "k", b"old", ExplicitHashKey="0")
        self.merge(name, 0, 1)
        new = self.api.put(name, "k", b"new", ExplicitHashKey="0")
        self.assertEqual((old["ShardId"], new["ShardId"]), (shard_id(0), shard_id(2)))
        self.assertGreater(int(new["SequenceNumber"]), int(old["SequenceNumber"]))
        self.assertEqual([data_of(r) for r in self.api.read_all(name, shard_id(2))], [b"new"])

    def test_split_and_merge_are_inverse(self):
        name = self.stream()
        self.api.call("SplitShard", StreamName=name, ShardToSplit=shard_id(0), NewStartingHashKey=str(SPACE // 2))
        self.wait_active(name)
        self.merge(name, 1, 2)
        shards = self.api.shards(name)
        self.assertEqual(shards[0]["HashKeyRange"], shards[3]["HashKeyRange"])

    def test_only_neighbours_in_order(self):
        name = self.stream(shards=4)
        account = self.account(name)
        for one, other in ((1, 0), (0, 2), (3, 0)):
            text = (
                f"Shards {shard_id(one)} and {shard_id(other)} in stream {name} under account {account} are not an adjacent pair of "
                "shards eligible for merging"
            )
            self.refuses(
                "InvalidArgumentException", text, "MergeShards",
                StreamName=name, ShardToMerge=shard_id(one), AdjacentShardToMerge=shard_id(other),
            )  # fmt: skip
        self.assertEqual(len(self.api.shards(name)), 4)

    def test_a_closed_shard_is_not_merged_again(self):
        name = self.stream(shards=3)
        self.merge(name, 0, 1)
        error = self.refused("MergeShards", StreamName=name, ShardToMerge=shard_id(1), AdjacentShardToMerge=shard_id(2))
        self.assertEqual(error.type, "InvalidArgumentException")
        self.assertIn("has already been merged or split, and thus is not eligible for merging or splitting.", error.text)

    def test_an_unknown_shard(self):
        name = self.stream(shards=2)
        error = self.refused("MergeShards", StreamName=name, ShardToMerge=shard_id(1), AdjacentShardToMerge=shard_id(2))
        self.assertEqual(error.type, "ResourceNotFoundException")
