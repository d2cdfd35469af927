import json

from appliance import ApiTest

SPACE = 1 << 128


class CreateStream(ApiTest):
    def test_shards_share_the_hash_keys_evenly(self):
        shards = self.api.shards(self.stream(shards=3))
        self.assertEqual([shard["ShardId"] for shard in shards], [f"shardId-{n:012}" for n in range(3)])
        third = SPACE // 3
        ranges = [(int(s["HashKeyRange"]["StartingHashKey"]), int(s["HashKeyRange"]["EndingHashKey"])) for s in shards]
        self.assertEqual(ranges, [(0, third - 1), (third, 2 * third - 1), (2 * third, SPACE - 1)])
        for shard in shards:
            self.assertEqual(set(shard), {"ShardId", "HashKeyRange", "SequenceNumberRange"})
            self.assertEqual(set(shard["SequenceNumberRange"]), {"StartingSequenceNumber"})

    def test_without_a_number_there_are_four_shards(self):
        name = self.name()
        self.api.call("CreateStream", StreamName=name)
        self.addCleanup(self.delete, name)
        self.wait_active(name)
        self.assertEqual(len(self.api.shards(name)), 4)

    def test_answers_with_nothing(self):
        name = self.name()
        status, headers, body = self.api.send("CreateStream", json.dumps({"StreamName": name, "ShardCount": 1}).encode())
        self.addCleanup(self.delete, name)
        self.assertEqual((status, body, headers["Content-Length"]), (200, b"", "0"))

    def test_is_known_and_active_on_every_connection_at_once(self):
        others = [self.server.client() for _ in range(8)]
        for turn in range(24):
            name = f"{self.name()}-{turn}"
            self.api.call("CreateStream", StreamName=name, ShardCount=2)
            self.addCleanup(self.delete, name)
            status = others[turn % 8].call("DescribeStream", StreamName=name)["StreamDescription"]["StreamStatus"]
            # SDK waiters look at once, and then sleep for ten seconds.
            self.assertEqual(status, "ACTIVE", f"create number {turn}")
            others[(turn + 1) % 8].put(name, "k", b"x")
        for other in others:
            other.close()

    def test_a_name_is_taken_once(self):
        name = self.stream()
        text = f"Stream {name} under account {self.account(name)} already exists."
        self.refuses("ResourceInUseException", text, "CreateStream", StreamName=name, ShardCount=1)

    def test_a_name_may_be_as_long_as_aws_allows(self):
        self.stream(StreamName="a._-Z9" + "n" * 122)

    def test_constraints_are_named(self):
        for constraint, members in [
            ("Value null at 'streamName' failed to satisfy constraint: Member must not be null", {"ShardCount": 1}),
            (
                "Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1",
                {"StreamName": "zero", "ShardCount": 0},
            ),
            (
                "Value 'no/slash' at 'streamName' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
                {"StreamName": "no/slash", "ShardCount": 1},
            ),
            (
                f"Value '{'n' * 129}' at 'streamName' failed to satisfy constraint: "
                "Member must have length less than or equal to 128",
                {"StreamName": "n" * 129, "ShardCount": 1},
            ),
        ]:
            with self.subTest(members=members):
                self.invalid(constraint, "CreateStream", **members)

    def test_types_are_checked_first(self):
        error = self.refused("CreateStream", StreamName="types", ShardCount="1")
        self.assertEqual(error.type, "SerializationException")
        self.assertEqual(json.loads(error.body)["Message"], "class java.lang.String can not be converted to an Integer")

    def test_modes_and_shard_counts_agree(self):
        refused = self.refused("CreateStream", StreamName="modes", ShardCount=3, StreamModeDetails={"StreamMode": "ON_DEMAND"})
        self.assertIn(refused.type, ("InvalidArgumentException", "ValidationException"))
        refused = self.refused("CreateStream", StreamName="modes", StreamModeDetails={"StreamMode": "PROVISIONED"})
        self.assertIn(refused.type, ("InvalidArgumentException", "ValidationException"))
        self.assertNotIn("modes", self.api.call("ListStreams")["StreamNames"])

    def test_unknown_and_null_members_do_not_matter(self):
        self.stream(StreamModeDetails=None, StreamId="reserved", Nothing={"of": ["the", "kind"]})
