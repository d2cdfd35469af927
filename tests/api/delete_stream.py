from appliance import FOREIGN, ApiTest, eventually
from wire import Refused
import unittest


class DeleteStream(ApiTest):
    def gone(self, name):
        try:
            return self.description(name)["StreamStatus"] != "DELETING" and self.fail("deleted, but not DELETING")
        except Refused as refused:
            self.assertEqual(refused.type, "ResourceNotFoundException")
            return True

    def test_a_deleted_stream_is_not_found(self):
        name = self.stream()
        account = self.account(name)
        self.api.put(name, "k", b"x")
        self.assertEqual(self.api.call("DeleteStream", StreamName=name), {})
        self.assertTrue(eventually(lambda: self.gone(name)))
        text = f"Stream {name} under account {account} not found."
        self.refuses("ResourceNotFoundException", text, "DescribeStream", StreamName=name)
        self.refuses("ResourceNotFoundException", text, "DeleteStream", StreamName=name)
        self.refuses("ResourceNotFoundException", text, "PutRecord", StreamName=name, PartitionKey="k", Data="AA==")
        self.assertNotIn(name, self.api.call("ListStreams")["StreamNames"])

    def test_its_name_can_be_used_again_and_its_iterators_cannot(self):
        name = self.stream()
        self.api.put(name, "k", b"old")
        old = self.api.iterator(name)
        self.api.call("DeleteStream", StreamName=name)
        self.assertTrue(eventually(lambda: self.gone(name)))
        self.stream(StreamName=name)
        self.assertEqual(self.api.read_all(name), [])
        self.assertIn(self.refused("GetRecords", ShardIterator=old).type, ("ResourceNotFoundException", "InvalidArgumentException"))

    @unittest.skipIf(FOREIGN, "reads penstock's metrics")
    def test_space_comes_back_at_once(self):
        def used():
            lines = self.api.get("/metrics")[1].splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.startswith("penstock_log_bytes_used_now"))

        name = self.stream()
        before = used()
        big = b"x" * (1 << 20)
        for _ in range(200):
            self.api.put(name, "k", big[:-1])
        # All of it, not only more than half: the gauge is a second old at most, and a stale one would make a false start of what follows.
        self.assertTrue(eventually(lambda: used() > before + (190 << 20)), "200 MiB in the log do not show in the metrics")
        full = used()
        self.api.call("DeleteStream", StreamName=name)
        self.assertTrue(eventually(lambda: used() <= full - (100 << 20)), "deleting did not give the space back")
