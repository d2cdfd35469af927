"""SIGKILL at random moments, in recovery, and while shards split and merge; SIGTERM under load."""

import os
import random
import subprocess
import time
import unittest

from appliance import BINARY, FOREIGN, Appliance
from producer import BROKEN, Witness, active, audit, join, produce

CYCLES = int(os.environ.get("PENSTOCK_CRASH_CYCLES", 15))
SEED = int(os.environ.get("PENSTOCK_CRASH_SEED", random.SystemRandom().randrange(1 << 32)))
STREAMS = ["crash-a", "crash-b", "crash-c"]


@unittest.skipIf(FOREIGN, "kills the server")
class Kill(unittest.TestCase):
    def setUp(self):
        print(f"{self._testMethodName}: PENSTOCK_CRASH_SEED={SEED}", flush=True)
        self.random = random.Random(f"{SEED}/{self._testMethodName}")
        self.server = Appliance(disk="2G").start()
        self.addCleanup(self.server.remove)
        self.producers = []
        self.witnesses = []
        client = self.client()
        for stream in STREAMS:
            client.call("CreateStream", StreamName=stream, ShardCount=2)
        for stream in STREAMS:
            active(self, client, stream)

    def client(self):
        client = self.server.client()
        self.addCleanup(client.close)
        return client

    def load(self, cycle):
        running = produce(self.server, STREAMS, f"{SEED}/{self._testMethodName}", cycle)
        self.producers += running
        witness = Witness(self.server, STREAMS)
        witness.start()
        self.witnesses.append(witness)
        return [*running, witness]

    def end(self):
        """The audit of everything, and that it did look at something."""
        self.assertGreater(sum(len(producer.acked) for producer in self.producers), 0, "no record was acked at all")
        self.assertGreater(sum(len(witness.read) for witness in self.witnesses), 0, "no record was read at the tail")
        self.assertNotIn("DAMAGE", self.server.output())
        audit(self, self.client(), STREAMS, self.producers, self.witnesses)

    def test_at_random_moments(self):
        for cycle in range(CYCLES):
            running = self.load(cycle)
            time.sleep(self.random.uniform(0.05, 0.8))
            self.server.kill()
            join(self, running)
            self.server.start()
        self.end()

    def test_sigterm_under_load(self):
        running = self.load(0)
        time.sleep(self.random.uniform(0.3, 0.8))
        self.assertEqual(self.server.stop(), 0, self.server.output()[-2000:])
        join(self, running)
        self.server.start()
        # The words of the notices of a log and of a catalog that end in something incomplete.
        self.assertNotIn("cut off", self.server.output())
        self.end()

    def test_in_recovery(self):
        for cycle in range(3):
            running = self.load(cycle)
            time.sleep(self.random.uniform(0.2, 0.5))
            self.server.kill()
            join(self, running)
            for _ in range(4):
                self.start_and_kill(self.random.uniform(0.005, 0.04))
            self.server.start()
        self.end()

    def start_and_kill(self, seconds):
        """Kills a start without waiting for its banner."""
        command = [BINARY, "serve", "--data", self.server.data, "--listen", f"127.0.0.1:{self.server.port}", "--native", "off", *self.server.flags]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait(60)

    def test_while_splitting_and_merging(self):
        for cycle in range(5):
            running = self.load(cycle)
            time.sleep(0.1)
            client = self.client()
            stream = STREAMS[cycle % len(STREAMS)]
            try:
                self.reshard(client, stream, cycle)
            except BROKEN:
                pass
            time.sleep(self.random.uniform(0, 0.03))
            self.server.kill()
            join(self, running)
            self.server.start()
            fresh = self.client()
            for each in STREAMS:
                active(self, fresh, each)
                self.whole(fresh.shards(each))
        self.end()

    def reshard(self, client, stream, cycle):
        shards = [shard for shard in client.shards(stream) if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        shards.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
        if cycle % 2:
            client.call("MergeShards", StreamName=stream, ShardToMerge=shards[0]["ShardId"], AdjacentShardToMerge=shards[1]["ShardId"])
            return
        first, last = (int(shards[0]["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
        client.call("SplitShard", StreamName=stream, ShardToSplit=shards[0]["ShardId"], NewStartingHashKey=str((first + last) // 2))

    def whole(self, shards):
        """The open shards cover every hash key once, every parent is there and closed."""
        by_id = {shard["ShardId"]: shard for shard in shards}
        self.assertEqual(len(by_id), len(shards))
        ranges = []
        for shard in shards:
            for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId")):
                if parent is not None:
                    self.assertIn("EndingSequenceNumber", by_id[parent]["SequenceNumberRange"], f"{parent} has a child and is open")
            if "EndingSequenceNumber" not in shard["SequenceNumberRange"]:
                ranges.append((int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"])))
        ranges.sort()
        self.assertEqual((ranges[0][0], ranges[-1][1]), (0, (1 << 128) - 1))
        for before, after in zip(ranges, ranges[1:], strict=False):
            self.assertEqual(before[1] + 1, after[0], "the open shards do not cover every hash key once")
