import unittest

from appliance import FOREIGN, ApiTest, Appliance, eventually
from wire import data_of

FIRST = "shardId-000000000000"


class Retention(ApiTest):
    def hours(self, name):
        return self.description(name)["RetentionPeriodHours"]

    def test_longer_and_shorter(self):
        name = self.stream()
        self.api.call("IncreaseStreamRetentionPeriod", StreamName=name, RetentionPeriodHours=48)
        self.assertTrue(eventually(lambda: self.hours(name) == 48))
        self.wait_active(name)
        self.api.call("IncreaseStreamRetentionPeriod", StreamName=name, RetentionPeriodHours=8760)
        self.wait_active(name)
        self.api.call("DecreaseStreamRetentionPeriod", StreamName=name, RetentionPeriodHours=24)
        self.assertTrue(eventually(lambda: self.hours(name) == 24))

    def test_the_same_again_is_fine(self):
        name = self.stream()
        self.api.call("IncreaseStreamRetentionPeriod", StreamName=name, RetentionPeriodHours=24)
        self.assertEqual(self.hours(name), 24)

    def test_bounds(self):
        name = self.stream()
        for hours, word, bound, unit in ((23, "Minimum", 24, "short"), (8761, "Maximum", 8760, "long")):
            operation = "DecreaseStreamRetentionPeriod" if hours < 24 else "IncreaseStreamRetentionPeriod"
            text = f"{word} allowed retention period is {bound} hours. Requested retention period ({hours} hours) is too {unit}."
            self.refuses("InvalidArgumentException", text, operation, StreamName=name, RetentionPeriodHours=hours)

    def test_each_operation_has_its_direction(self):
        name = self.stream()
        self.api.call("IncreaseStreamRetentionPeriod", StreamName=name, RetentionPeriodHours=72)
        self.wait_active(name)
        text = (
            f"Requested retention period (48 hours) for stream {name} can not be shorter than existing retention period (72 hours). "
            "Use DecreaseRetentionPeriod API."
        )
        self.refuses("InvalidArgumentException", text, "IncreaseStreamRetentionPeriod", StreamName=name, RetentionPeriodHours=48)
        text = text.replace("shorter", "longer").replace("Decrease", "Increase").replace("48", "96")
        self.refuses("InvalidArgumentException", text, "DecreaseStreamRetentionPeriod", StreamName=name, RetentionPeriodHours=96)

    def test_an_unknown_stream(self):
        error = self.refused("IncreaseStreamRetentionPeriod", StreamName="nobody", RetentionPeriodHours=48)
        self.assertEqual(error.type, "ResourceNotFoundException")


class Expiry(ApiTest):
    """An hour of retention lasts a second here, so a day is 24 of them."""

    flags = ("--retention-hour", "1")

    def test_records_expire_and_nothing_else_does(self):
        short, long = self.stream(), self.stream()
        self.api.call("IncreaseStreamRetentionPeriod", StreamName=long, RetentionPeriodHours=8760)
        self.wait_active(long)
        for name in (short, long):
            for n in range(5):
                self.api.put(name, "k", str(n).encode())
        first, second = self.api.read_all(short)[:2]
        self.assertTrue(eventually(lambda: self.api.read_all(short) == [], 90), "records of a day ago are still read")
        self.assertEqual(len(self.api.read_all(long)), 5)
        number = self.api.put(short, "k", b"new")["SequenceNumber"]
        self.assertGreater(int(number), int(second["SequenceNumber"]))
        # Reading goes on at the trim horizon, wherever an iterator points.
        iterator = self.api.iterator(short, FIRST, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=first["SequenceNumber"])
        self.assertEqual([data_of(r) for r in self.api.drain(iterator)[0]], [b"new"])

    def test_a_closed_shard_lives_until_its_last_record_expires(self):
        name = self.stream()
        self.api.put(name, "k", b"x")
        self.api.call("SplitShard", StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(1 << 127))
        self.wait_active(name)
        self.assertEqual(len(self.api.shards(name)), 3)
        self.assertEqual(len(self.api.read_all(name)), 1)

        def listed():
            return [shard["ShardId"][-1] for shard in self.api.call("ListShards", StreamName=name)["Shards"]]

        self.assertTrue(eventually(lambda: listed() == ["1", "2"], 90), "the closed shard is still listed a day later")
        at_horizon = self.api.call("ListShards", StreamName=name, ShardFilter={"Type": "AT_TRIM_HORIZON"})["Shards"]
        self.assertEqual([shard["ShardId"][-1] for shard in at_horizon], ["1", "2"])


class RetentionHour(unittest.TestCase):
    def test_is_fixed_when_the_directory_is_made(self):
        if FOREIGN:
            self.skipTest("needs a server of its own")
        server = Appliance("--retention-hour", "1").start()
        self.addCleanup(server.remove)
        server.stop()
        server.flags[1] = "3600"
        with self.assertRaises(RuntimeError) as caught:
            server.start()
        self.assertIn("retention", str(caught.exception))
