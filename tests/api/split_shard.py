from appliance import ApiTest
from wire import data_of

SPACE = 1 << 128
FIRST = "shardId-000000000000"


class SplitShard(ApiTest):
    def split(self, name, shard, at):
        self.api.call("SplitShard", StreamName=name, ShardToSplit=f"shardId-{shard:012}", NewStartingHashKey=str(at))
        self.wait_active(name)

    def test_lineage(self):
        name = self.stream()
        self.split(name, 0, 1000)
        parent, lower, upper = self.api.shards(name)
        self.assertEqual(lower["HashKeyRange"], {"StartingHashKey": "0", "EndingHashKey": "999"})
        self.assertEqual(upper["HashKeyRange"], {"StartingHashKey": "1000", "EndingHashKey": str(SPACE - 1)})
        end = int(parent["SequenceNumberRange"]["EndingSequenceNumber"])
        for child in (lower, upper):
            self.assertEqual(child["ParentShardId"], FIRST)
            self.assertNotIn("AdjacentParentShardId", child)
            self.assertNotIn("EndingSequenceNumber", child["SequenceNumberRange"])
            self.assertGreater(int(child["SequenceNumberRange"]["StartingSequenceNumber"]), end)

    def test_records_stay_with_the_parent_and_new_ones_go_to_the_children(self):
        name = self.stream()
        old = [self.api.put(name, str(n), b"old")["SequenceNumber"] for n in range(20)]
        self.split(name, 0, SPACE // 2)
        new = [self.api.put(name, "k", b"new", ExplicitHashKey=str(at)) for at in (0, SPACE - 1)]
        self.assertEqual([place["ShardId"][-1] for place in new], ["1", "2"])
        self.assertEqual([r["SequenceNumber"] for r in self.api.read_all(name)], old)
        self.assertTrue(all(int(place["SequenceNumber"]) > int(old[-1]) for place in new))
        for place in new:
            (record,) = self.api.read_all(name, place["ShardId"])
            self.assertEqual((record["SequenceNumber"], data_of(record)), (place["SequenceNumber"], b"new"))

    def test_the_end_of_a_parent_names_its_children(self):
        name = self.stream()
        for n in range(3):
            self.api.put(name, "k", str(n).encode())
        before = self.api.iterator(name)
        self.split(name, 0, SPACE // 2)
        for iterator, limit in ((self.api.iterator(name), 10), (before, 1)):
            records, last = self.api.drain(iterator, Limit=limit)
            self.assertEqual(len(records), 3)
            self.assertIsNone(last.get("NextShardIterator"))
            self.assertEqual([child["ShardId"][-1] for child in last["ChildShards"]], ["1", "2"])
            for child, listed in zip(last["ChildShards"], self.api.shards(name)[1:]):
                self.assertEqual(child["ParentShards"], [FIRST])
                self.assertEqual(child["HashKeyRange"], listed["HashKeyRange"])

    def test_an_iterator_at_the_end_of_a_closed_shard(self):
        name = self.stream()
        self.api.put(name, "k", b"x")
        self.split(name, 0, SPACE // 2)
        answer = self.api.call("GetRecords", ShardIterator=self.api.iterator(name, FIRST, "LATEST"))
        self.assertEqual(answer["Records"], [])
        self.assertIsNone(answer.get("NextShardIterator"))
        self.assertEqual(len(answer["ChildShards"]), 2)

    def test_an_open_shard_never_says_that_it_ended(self):
        name = self.stream(shards=2)
        self.split(name, 0, 5)
        answer = self.api.call("GetRecords", ShardIterator=self.api.iterator(name, "shardId-000000000001"))
        self.assertTrue(answer["NextShardIterator"])
        self.assertFalse(answer.get("ChildShards"))

    def test_a_split_again_and_again(self):
        name = self.stream()
        for turn in range(6):
            shard = self.api.shards(name)[-1]
            start, end = int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"])
            self.api.put(name, "k", str(turn).encode(), ExplicitHashKey=str(end))
            self.split(name, int(shard["ShardId"][-12:]), (start + end) // 2)
        shards = self.api.shards(name)
        self.assertEqual([s["ShardId"] for s in shards], [f"shardId-{n:012}" for n in range(13)])
        numbers = []
        for shard in shards:
            numbers += [(int(r["SequenceNumber"]), data_of(r)) for r in self.api.read_all(name, shard["ShardId"])]
        self.assertEqual([data for _, data in sorted(numbers)], [str(turn).encode() for turn in range(6)])

    def test_a_new_starting_key_lies_inside(self):
        name = self.stream()
        account, end = self.account(name), SPACE - 1
        for key in (0, 1, end):
            text = (
                f"NewStartingHashKey {key} used in SplitShard() on shard {FIRST} in stream {name} under account {account} is not both "
                f"greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey {end}."
            )
            self.refuses(
                "InvalidArgumentException", text, "SplitShard", StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(key)
            )
        self.split(name, 0, 2)
        self.assertEqual(len(self.api.shards(name)), 3)

    def test_a_closed_shard_is_not_split_again(self):
        name = self.stream()
        self.split(name, 0, SPACE // 2)
        text = (
            f"Shard {FIRST} in stream {name} under account {self.account(name)} has already been merged or split, and thus is not "
            "eligible for merging or splitting."
        )
        self.refuses("InvalidArgumentException", text, "SplitShard", StreamName=name, ShardToSplit=FIRST, NewStartingHashKey="1000")

    def test_an_unknown_shard(self):
        name = self.stream()
        text = f"Could not find shard shardId-000000000007 in stream {name} under account {self.account(name)}."
        self.refuses(
            "ResourceNotFoundException", text, "SplitShard", StreamName=name, ShardToSplit="shardId-000000000007", NewStartingHashKey="9"
        )
        error = self.refused("SplitShard", StreamName="nobody", ShardToSplit=FIRST, NewStartingHashKey="9")
        self.assertEqual(error.type, "ResourceNotFoundException")
