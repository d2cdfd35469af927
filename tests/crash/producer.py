"""Producers that remember what they were answered, and the audit of a stream against their memory."""

import collections
import http.client
import random
import threading

import wire
from appliance import eventually

BROKEN = (OSError, http.client.HTTPException)


class Producer(threading.Thread):
    """One connection, one outstanding call, keys and record bytes of its own. It ends when the connection breaks or `halt` is set."""

    def __init__(self, server, streams, name, seed):
        super().__init__(daemon=True)
        self.server, self.streams, self.name_, self.random = server, streams, name, random.Random(seed)
        self.acked = []  # (stream, key, data, shard, sequence number), in the order of the answers
        self.unanswered = []  # (stream, data) of calls whose answer never came, and of entries that an answer refused
        self.wrong = []  # answers that no producer should see
        self.halt = threading.Event()
        self.count = 0

    def entry(self):
        self.count += 1
        key = f"{self.name_}-{self.random.randrange(4)}"
        data = f"{self.name_}/{self.count}/".encode() + b"x" * self.random.choice((0, 10, 300, 5_000, 40_000))
        return key, data

    def run(self):
        client = self.server.client(timeout=20)
        try:
            while not self.halt.is_set():
                self.put(client, self.random.choice(self.streams))
        except BROKEN:
            pass
        finally:
            client.close()

    def put(self, client, stream):
        entries = [self.entry() for _ in range(self.random.choice((1, 1, 2, 20)))]
        single = len(entries) == 1 and self.random.random() < 0.8
        self.unanswered += [(stream, data) for _, data in entries]
        try:
            if single:
                answers = [client.put(stream, *entries[0])]
            else:
                records = [{"PartitionKey": key, "Data": data} for key, data in entries]
                answers = client.call("PutRecords", StreamName=stream, Records=records)["Records"]
        except wire.Refused as refused:
            # Throughput of a shard, and a server that is about to stop; the record may not be there, and may not matter.
            if refused.type not in ("ProvisionedThroughputExceededException", "InternalFailure", "ServiceUnavailable"):
                self.wrong.append(str(refused))
            return
        for (key, data), answer in zip(entries, answers, strict=True):
            if "SequenceNumber" in answer:
                self.unanswered.remove((stream, data))
                self.acked.append((stream, key, data, answer["ShardId"], int(answer["SequenceNumber"])))


class Witness(threading.Thread):
    """Reads the tail of every shard while producers write. What was read once is there for ever, though its producer was never answered."""

    def __init__(self, server, streams):
        super().__init__(daemon=True)
        self.server, self.streams = server, streams
        self.read = {}  # (stream, shard, sequence number) -> data
        self.wrong = []
        self.halt = threading.Event()

    def run(self):
        client = self.server.client(timeout=20)
        try:
            iterators = {
                (stream, shard["ShardId"]): client.iterator(stream, shard["ShardId"], "LATEST")
                for stream in self.streams
                for shard in client.shards(stream)
            }
            while iterators and not self.halt.is_set():
                for (stream, shard), iterator in list(iterators.items()):
                    answer = client.call("GetRecords", ShardIterator=iterator)
                    for record in answer["Records"]:
                        self.read[stream, shard, int(record["SequenceNumber"])] = wire.data_of(record)
                    iterators[stream, shard] = answer.get("NextShardIterator")
                    if iterators[stream, shard] is None:
                        del iterators[stream, shard]
        except BROKEN:
            pass
        except wire.Refused as refused:
            if refused.type != "InternalFailure":
                self.wrong.append(str(refused))
        finally:
            client.close()


def produce(server, streams, seed, cycle, count=4):
    """Starts `count` producers whose records no other cycle writes."""
    producers = [Producer(server, streams, f"p{cycle}.{n}", f"{seed}/{cycle}/{n}") for n in range(count)]
    for producer in producers:
        producer.start()
    return producers


def join(test, clients):
    for client in clients:
        client.halt.set()
    for client in clients:
        client.join(60)
        test.assertFalse(client.is_alive(), "a client's call was neither answered nor broken off")
        test.assertEqual(client.wrong, [])


def active(test, client, stream):
    status = lambda: client.call("DescribeStream", StreamName=stream)["StreamDescription"]["StreamStatus"]
    test.assertTrue(eventually(lambda: status() == "ACTIVE"), f"{stream} does not become ACTIVE")


def audit(test, client, streams, producers, witnesses):
    """Every acked record is there once, under its number and in its shard; what else is there was sent and not answered; all that a witness
    has read is there."""
    for stream in streams:
        found = {}  # (shard, sequence number) -> (key, data)
        times = collections.Counter()
        for shard in client.shards(stream):
            last = -1
            for record in client.read_all(stream, shard["ShardId"]):
                number = int(record["SequenceNumber"])
                test.assertGreater(number, last, f"{stream} {shard['ShardId']}: sequence numbers do not rise")
                last = number
                data = wire.data_of(record)
                found[shard["ShardId"], number] = (record["PartitionKey"], data)
                times[data] += 1
        acked = {}
        for producer in producers:
            lasts = {}
            for its_stream, key, data, shard, number in producer.acked:
                if its_stream != stream:
                    continue
                test.assertEqual(found.get((shard, number)), (key, data), f"acked, but not in {stream} {shard} under {number}")
                test.assertGreater(number, lasts.get(key, -1), f"{stream}: the numbers of key {key} do not rise")
                lasts[key] = number
                acked[data] = number
        for witness in witnesses:
            for (its_stream, shard, number), data in witness.read.items():
                if its_stream == stream:
                    there = found.get((shard, number), (None, None))[1]
                    test.assertEqual(there, data, f"read once, and not in {stream} {shard} under {number} any more")
        maybe = {data for producer in producers for its_stream, data in producer.unanswered if its_stream == stream}
        for data, count in times.items():
            test.assertTrue(data in acked or data in maybe, f"{stream}: a record nobody sent: {data[:40]}")
            # A producer sends nothing twice, so nothing may be stored twice.
            test.assertEqual(count, 1, f"{stream}: stored {count} times: {data[:40]}")
