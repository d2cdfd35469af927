import unittest

from appliance import FOREIGN, ApiTest, eventually
import wire
from wire import data_of

MEBIBYTE = 1 << 20
FULL = "ProvisionedThroughputExceededException"


def batch(number):
    """Eight records of about a mebibyte, numbered in their data and alike in nothing that a disk could pack."""
    return [{"PartitionKey": "k", "Data": b"%08d" % (number * 8 + n) + bytes(MEBIBYTE - 64)} for n in range(8)]


@unittest.skipIf(FOREIGN, "fills penstock's disk")
class Reject(ApiTest):
    flags = ("--cores", "0")
    disk = "512M"

    def test_a_full_log_refuses_puts_and_serves_reads(self):
        name = self.stream()
        acked, calls = [], 0
        while True:
            answer = self.api.call("PutRecords", StreamName=name, Records=batch(calls))
            self.assertEqual(answer["FailedRecordCount"], sum("ErrorCode" in place for place in answer["Records"]))
            acked += [calls * 8 + n for n, place in enumerate(answer["Records"]) if "SequenceNumber" in place]
            refused = [place for place in answer["Records"] if "ErrorCode" in place]
            calls += 1
            if refused:
                break
            self.assertLess(calls * 8, 1024, "1 GiB went into 512 MiB")
        self.assertGreater(len(acked), 200, "half of the disk is for records")
        for place in refused:
            self.assertEqual(place["ErrorCode"], FULL)
            self.assertRegex(place["ErrorMessage"], r"(?i)full")
        # What is left may be enough for smaller puts, but not for many.
        for number in range(calls * 8, calls * 8 + 16):
            try:
                data = b"%08d" % number + bytes(MEBIBYTE - 64)
                self.api.call("PutRecord", StreamName=name, PartitionKey="k", Data=data)
                acked.append(number)
            except wire.Refused as refused:
                error = refused
                break
        self.assertEqual(error.type, FULL)
        self.assertRegex(error.text, r"(?i)full")
        self.assertEqual([int(data_of(record)[:8]) for record in self.api.read_all(name)], acked)
        self.assertTrue(self.server.says("% full"), "80 % of the space were never announced")
        self.assertIn("full", self.api.get("/health")[1])

        # Deleting gives the space back; what was refused before is taken now.
        self.api.call("DeleteStream", StreamName=name)
        other = self.stream()
        self.assertTrue(eventually(lambda: self.api.call("PutRecords", StreamName=other, Records=batch(0))["FailedRecordCount"] == 0))

    def test_a_full_log_restarts(self):
        name = self.stream()
        acked = []
        for number in range(200):
            answer = self.api.call("PutRecords", StreamName=name, Records=batch(number))
            acked += [number * 8 + n for n, place in enumerate(answer["Records"]) if "SequenceNumber" in place]
            if answer["FailedRecordCount"]:
                break
        self.server.kill()
        self.server.start()
        self.api.close()
        self.api = self.server.client()
        self.assertEqual([int(data_of(record)[:8]) for record in self.api.read_all(name)], acked)


@unittest.skipIf(FOREIGN, "fills penstock's disk")
class Trim(ApiTest):
    flags = ("--cores", "0", "--when-full", "trim")
    disk = "512M"

    def test_a_full_log_lets_the_oldest_go(self):
        name = self.stream()
        first = self.api.call("PutRecords", StreamName=name, Records=batch(0))["Records"][0]["SequenceNumber"]
        last = None
        for number in range(1, 160):
            answer = self.api.call("PutRecords", StreamName=name, Records=batch(number))
            self.assertEqual(answer["FailedRecordCount"], 0, answer["Records"])
            last = answer["Records"][-1]["SequenceNumber"]
        kept = [int(data_of(record)[:8]) for record in self.api.read_all(name)]
        self.assertEqual(kept, list(range(kept[0], 160 * 8)), "what is kept has no gap")
        self.assertTrue(128 < len(kept) < 512, len(kept))
        # An iterator at a record that is gone goes on at the trim horizon.
        iterator = self.api.iterator(name, kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=first)
        (record, *_) = self.api.call("GetRecords", ShardIterator=iterator, Limit=1)["Records"]
        self.assertEqual(int(data_of(record)[:8]), kept[0])
        self.assertTrue(self.server.says("recycled"), "nothing said that records were trimmed")
        self.server.kill()
        self.server.start()
        self.api.close()
        self.api = self.server.client()
        after = self.api.read_all(name)
        self.assertEqual(after[-1]["SequenceNumber"], last)
        self.assertGreater(int(self.api.put(name, "k", b"x")["SequenceNumber"]), int(last))
