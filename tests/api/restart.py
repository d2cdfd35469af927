"""What a restart finds, after SIGTERM and after SIGKILL."""

import os
import unittest

from appliance import FOREIGN, ApiTest, Appliance
from wire import data_of

FIRST = "shardId-000000000000"


@unittest.skipIf(FOREIGN, "stops the server")
class Restart(ApiTest):
    own = True

    def restart(self, end):
        end()
        self.server.start()
        self.api.close()
        self.api = self.server.client()

    def test_a_clean_stop_ends_with_code_0_and_says_so(self):
        self.assertEqual(self.server.stop(), 0)
        self.assertIn("stopped", self.server.output())
        self.server.start()

    def test_everything_is_there_again(self):
        for end in (self.server.stop, self.server.kill):
            name = self.stream(shards=3, Tags={"a": "b"})
            put = {}
            for n in range(60):
                place = self.api.put(name, str(n), b"%d" % n)
                put[place["ShardId"], place["SequenceNumber"]] = b"%d" % n
            self.api.call("IncreaseStreamRetentionPeriod", StreamName=name, RetentionPeriodHours=100)
            self.wait_active(name)
            self.api.call("SplitShard", StreamName=name, ShardToSplit=FIRST, NewStartingHashKey="77")
            self.wait_active(name)
            before = self.description(name)
            self.restart(end)
            self.assertEqual(self.description(name), before)
            self.assertEqual(self.api.call("ListTagsForStream", StreamName=name)["Tags"], [{"Key": "a", "Value": "b"}])
            got = {}
            for shard in before["Shards"]:
                for record in self.api.read_all(name, shard["ShardId"]):
                    got[shard["ShardId"], record["SequenceNumber"]] = data_of(record)
            self.assertEqual(got, put)

    def test_numbers_go_on_rising(self):
        name = self.stream()
        last = 0
        for turn in range(6):
            number = int(self.api.put(name, "k", b"%d" % turn)["SequenceNumber"])
            self.assertGreater(number, last)
            last = number
            self.restart(self.server.kill if turn % 2 else self.server.stop)
        self.assertEqual([int(data_of(record)) for record in self.api.read_all(name)], list(range(6)))

    def test_iterators_stay_valid(self):
        name = self.stream()
        self.api.put(name, "k", b"0")
        oldest, latest = self.api.iterator(name), self.api.iterator(name, kind="LATEST")
        self.restart(self.server.kill)
        self.api.put(name, "k", b"1")
        self.assertEqual([data_of(r) for r in self.api.drain(oldest)[0]], [b"0", b"1"])
        self.assertEqual([data_of(r) for r in self.api.drain(latest)[0]], [b"1"])

    def test_a_deleted_stream_stays_deleted(self):
        name = self.stream()
        self.api.put(name, "k", b"x")
        self.api.call("DeleteStream", StreamName=name)
        self.restart(self.server.kill)
        self.assertEqual(self.refused("DescribeStream", StreamName=name).type, "ResourceNotFoundException")
        self.stream(StreamName=name)
        self.assertEqual(self.api.read_all(name), [])

    def test_more_cores_make_more_logs_and_fewer_serve_them_all(self):
        """Log by log: what was put stays where it is, and new shards go to new logs."""
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("needs two cores")
        cores = sorted(os.sched_getaffinity(0))[:2]
        server = Appliance("--cores", str(cores[0]))
        self.addCleanup(server.remove)
        put = {}
        for life, chosen in enumerate(["0", "0,1", "0", "0,1"]):
            chosen = ",".join(str(cores[int(core)]) for core in chosen.split(","))
            server.flags[server.flags.index("--cores") + 1] = chosen
            server.start()
            api = server.client()
            name = f"life-{life}"
            api.call("CreateStream", StreamName=name, ShardCount=16)
            for stream in [name, *put]:
                for n in range(32):
                    place = api.put(stream, f"{life}/{n}", b"%d" % n)
                    put.setdefault(stream, {})[place["ShardId"], place["SequenceNumber"]] = b"%d" % n
            for stream, expected in put.items():
                shards = api.call("ListShards", StreamName=stream)["Shards"]
                got = {
                    (shard["ShardId"], record["SequenceNumber"]): data_of(record)
                    for shard in shards
                    for record in api.read_all(stream, shard["ShardId"])
                }
                self.assertEqual(got, expected)
            api.close()
            logs = [entry for entry in os.listdir(server.data) if entry.startswith("log-")]
            self.assertEqual(len(logs), 1 if life == 0 else 2)
            self.assertEqual("2 logs now instead of 1" in server.output(), life == 1)
            (server.kill if life % 2 else server.stop)()

    def test_the_banner_counts_what_was_opened(self):
        name = self.stream()
        for n in range(7):
            self.api.put(name, "k", b"x")
        self.restart(self.server.stop)
        self.assertRegex(self.server.output(), r"opened: \d+ streams?, \d+ records?")


@unittest.skipIf(FOREIGN, "stops the server")
class OneCoreThenTwo(ApiTest):
    """The number of workers may change between two starts."""

    flags = ("--cores", "0")

    def test_shards_are_found_by_any_number_of_workers(self):
        name = self.stream(shards=4)
        sent = 0
        for cores in ("0-1", "0", "0,1"):
            for n in range(40):
                self.api.put(name, str(n), b"x")
            sent += 40
            self.server.stop()
            self.server.flags[1] = cores
            self.server.start()
            self.api.close()
            self.api = self.server.client()
            self.assertEqual(sum(len(self.api.read_all(name, shard["ShardId"])) for shard in self.api.shards(name)), sent)
