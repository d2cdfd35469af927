"""Scrubbing: what changes on the disk under a running server is found and told."""

import json
import re
import unittest

from appliance import FOREIGN, ApiTest, Appliance, Starts, eventually
from wire import data_of

MEBIBYTE = 1 << 20
SEGMENT = 64 * MEBIBYTE
TRAILER = b"pgFt"


def batch(number):
    """Eight records of a mebibyte, less what frames and commits need."""
    return [{"PartitionKey": "k", "Data": b"%08d" % (number * 8 + n) + bytes(MEBIBYTE - 64)} for n in range(8)]


def ends(file):
    with open(file, "rb") as segment:
        segment.seek(-64, 2)
        return segment.read()


def segments(server):
    return sorted((server.data / "log-000").glob("segment-??????"))


def incarnation(file):
    """Number of the use of the file, in the header of its first commit."""
    with open(file, "rb") as segment:
        return int.from_bytes(segment.read(32)[28:], "little")


def flip(file, place):
    """Another bit of the byte at `place`."""
    with open(file, "r+b") as segment:
        segment.seek(place)
        byte = segment.read(1)[0]
        segment.seek(place)
        segment.write(bytes([byte ^ 4]))


def journal(server):
    return b"".join(file.read_bytes() for file in sorted((server.data / "catalog").glob("journal-*")))


def metric(api, name):
    return int(re.search(rf'^penstock_{name}{{worker="0"}} (\d+)$', api.get("/metrics")[1], re.M)[1])


@unittest.skipIf(FOREIGN, "changes bytes under penstock")
class Scrub(ApiTest):
    # A period that cannot be held: the scrub goes as fast as it may, and says so.
    flags = ("--cores", "0", "--scrub-days", "0.00001")
    disk = "512M"

    def metric(self, name):
        return metric(self.api, name)

    def scrubbed_again(self, segments):
        """Waits until so many more whole segments have been verified."""
        before = self.metric("scrubbed_bytes_total")
        enough = before + segments * SEGMENT
        self.assertTrue(eventually(lambda: self.metric("scrubbed_bytes_total") > enough, 120), f"nothing is scrubbed: {self.server.output()}")

    def sealed_segments(self):
        """Files that end in a trailer."""
        return [file for file in segments(self.server) if ends(file)[:4] == TRAILER]

    def test_a_flipped_byte_is_found_and_told_once(self):
        name = self.stream()
        for number in range(26):
            self.assertEqual(self.api.call("PutRecords", StreamName=name, Records=batch(number))["FailedRecordCount"], 0)
        self.assertTrue(eventually(lambda: len(self.sealed_segments()) >= 1), "no segment is sealed after 208 MiB")
        self.scrubbed_again(2)
        self.assertEqual(self.metric("scrub_findings_total"), 0, self.server.output())
        self.assertTrue(self.server.says("scrubbing is late"), "a period of a second cannot be held")

        file = self.sealed_segments()[0]
        place = 20 * MEBIBYTE + 12_345
        flip(file, place)
        self.assertTrue(self.server.says("found by scrubbing", 120), f"the flipped byte is not found:\n{self.server.output()}")
        found = re.search(r"DAMAGE in (\S+), (\d+) bytes at (\d+) \(position \d+\), found by scrubbing: (.*)", self.server.output())
        self.assertEqual(found[1], f"log-000/{file.name}")
        self.assertTrue(int(found[3]) <= place < int(found[3]) + int(found[2]), found[0])
        self.assertIn("checksum", found[4])
        self.scrubbed_again(3)
        self.assertEqual(self.metric("scrub_findings_total"), 1)
        self.assertEqual(self.server.output().count("found by scrubbing"), 1)
        self.assertEqual(json.loads(self.api.get("/health")[1])["damaged"], 1)
        # It lies too far back for the cache of the tail; what a commit of it held is gone, the rest is served.
        kept = [int(data_of(record)[:8]) for record in self.api.read_all(name)]
        self.assertTrue(208 - 8 <= len(kept) <= 207, len(kept))
        self.assertEqual(kept, sorted(kept))


@unittest.skipIf(FOREIGN, "changes bytes under servers of its own")
class Runs(Starts, unittest.TestCase):
    def server(self, *flags):
        server = Appliance("--cores", "0", *flags, disk="512M")
        self.addCleanup(server.remove)
        return server, self.ready(server)

    def test_what_is_not_sealed_is_verified_too(self):
        server, api = self.server("--scrub-days", "0.00005")
        api.call("CreateStream", StreamName="s", ShardCount=1)
        for number in range(4):
            api.call("PutRecord", StreamName="s", PartitionKey="k", Data=b"number %d" % number + bytes(20_000))
        self.assertTrue(eventually(lambda: metric(api, "scrubbed_bytes_total") > 0, 60), server.output())
        [file] = [file for file in segments(server) if b"number 2" in file.read_bytes()]
        self.assertEqual(ends(file), bytes(64), "it is not sealed")
        flip(file, file.read_bytes().index(b"number 2") + 10_000)
        self.assertTrue(server.says("found by scrubbing", 120), f"the flipped byte is not found:\n{server.output()}")

    def test_a_stop_in_the_middle_of_a_pass_goes_on_behind_what_is_verified(self):
        self.go_on_after(Appliance.stop)

    def test_a_kill_in_the_middle_of_a_pass_goes_on_behind_what_is_verified(self):
        self.go_on_after(Appliance.kill)

    def go_on_after(self, end):
        server, api = self.server("--scrub-days", "0")
        api.call("CreateStream", StreamName="s", ShardCount=1)
        for number in range(34):
            self.assertEqual(api.call("PutRecords", StreamName="s", Records=batch(number))["FailedRecordCount"], 0)
        server.stop()
        # Nothing has been verified: the oldest is first. A pass takes some 16 s.
        server.flags[server.flags.index("--scrub-days") + 1] = "0.00023"
        api = self.ready(server)
        self.assertTrue(eventually(lambda: metric(api, "scrubbed_bytes_total") > 0, 60), server.output())
        if end is Appliance.kill:
            before = journal(server)
            self.assertTrue(eventually(lambda: journal(server) != before, 60), "the catalog is not told")
        end(server)
        oldest, *_, newest = sorted((file for file in segments(server) if ends(file)[:4] == TRAILER), key=incarnation)
        for file in (oldest, newest):
            flip(file, 20 * MEBIBYTE + 12_345)
        self.ready(server)
        self.assertTrue(eventually(lambda: server.output().count("found by scrubbing") == 2, 120), server.output())
        found = re.findall(r"DAMAGE in (\S+), .* found by scrubbing", server.output())
        self.assertEqual(found, [f"log-000/{newest.name}", f"log-000/{oldest.name}"], "the one that was verified comes last")


@unittest.skipIf(FOREIGN, "starts servers of its own")
class Period(unittest.TestCase):
    def test_the_banner_says_what_is_scrubbed(self):
        for days, text in (("14", "within 14 days"), ("0.25", "within 6 hours"), ("0", "off")):
            server = Appliance("--cores", "0", "--scrub-days", days).start()
            self.addCleanup(server.remove)
            line = next(line for line in server.output().splitlines() if line.strip().startswith("scrub "))
            self.assertIn(text, line)
            server.stop()
