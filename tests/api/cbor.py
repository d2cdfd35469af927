"""The same operations in CBOR, as Java's clients speak it: what goes in comes out, in the encoding of the request."""

import json
import struct
import time

from appliance import ApiTest

CONTENT_TYPE = "application/x-amz-cbor-1.1"


class Time(int):
    """Milliseconds since 1970, behind the tag of a time."""


def head(major, value):
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 24:
            return bytes([major << 5 | value])
        if value < 1 << 8 * size:
            return bytes([major << 5 | info]) + value.to_bytes(size, "big")
    raise ValueError(value)


def encode(value):
    """As Java's SDK has it: maps and lists without a length, strings with one."""
    match value:
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case Time():
            return head(6, 1) + head(0, int(value))
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case dict():
            return b"\xbf" + b"".join(encode(part) for member in value.items() for part in member) + b"\xff"
        case _:
            return b"\x9f" + b"".join(map(encode, value)) + b"\xff"


def decode(text):
    value, rest = item(text)
    assert rest == b"", rest
    return value


def item(text):
    """(value, what follows it); a break is `...`."""
    major, info, rest = text[0] >> 5, text[0] & 31, text[1:]
    if major == 7:
        return {20: False, 21: True, 22: None, 31: ...}[info], rest
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    length = None if info == 31 else int.from_bytes(rest[:size], "big") if size else info
    rest = rest[size:]
    if major == 0:
        return length, rest
    if major in (2, 3):
        return (rest[:length] if major == 2 else rest[:length].decode()), rest[length:]
    if major == 6:
        assert length == 1, length
        value, rest = item(rest)
        return Time(value), rest
    assert major in (4, 5), text[0]
    parts = []
    while length is None or len(parts) < length * (major - 3):
        part, rest = item(rest)
        if part is ...:
            break
        parts.append(part)
    return (parts if major == 4 else dict(zip(parts[::2], parts[1::2]))), rest


class Cbor(ApiTest):
    def call(self, operation, status=200, body=None, **members):
        body = encode(members) if body is None else body
        found, headers, answer = self.api.send(operation, body, {"Content-Type": CONTENT_TYPE})
        self.assertEqual(found, status, answer)
        if answer:
            self.assertEqual(headers["Content-Type"], CONTENT_TYPE)
        return decode(answer) if answer else None

    def iterator(self, name, shard, kind="TRIM_HORIZON", **members):
        return self.call("GetShardIterator", StreamName=name, ShardId=shard, ShardIteratorType=kind, **members)["ShardIterator"]

    def test_what_goes_in_comes_out_in_either_encoding(self):
        name = self.stream()
        before = int(time.time() * 1000) - 1000
        sent = [(f"clé {n} \"\\", bytes((n * i) % 256 for i in range(n * n))) for n in range(40)]
        answer = self.call("PutRecords", StreamName=name, Records=[{"PartitionKey": key, "Data": data} for key, data in sent])
        self.assertEqual(answer["FailedRecordCount"], 0)
        numbers = [record["SequenceNumber"] for record in answer["Records"]]
        alone = self.call("PutRecord", PartitionKey="k", Data=b"", ExplicitHashKey="7", StreamName=name)
        self.api.put(name, "of JSON", b"\x00\xff")
        read = self.call("GetRecords", ShardIterator=self.iterator(name, alone["ShardId"]))
        got = [(record["PartitionKey"], record["Data"]) for record in read["Records"]]
        self.assertEqual(got, [*sent, ("k", b""), ("of JSON", b"\x00\xff")])
        self.assertEqual([record["SequenceNumber"] for record in read["Records"]][:41], [*numbers, alone["SequenceNumber"]])
        for record in read["Records"]:
            self.assertIsInstance(record["ApproximateArrivalTimestamp"], Time)
            self.assertTrue(before <= record["ApproximateArrivalTimestamp"] <= time.time() * 1000 + 1000)
        self.assertEqual(read["MillisBehindLatest"], 0)
        self.assertEqual(self.api.read_all(name)[3]["PartitionKey"], sent[3][0])

    def test_times_are_whole_milliseconds(self):
        name = self.stream()
        summary = self.call("DescribeStreamSummary", StreamName=name)["StreamDescriptionSummary"]
        made = summary["StreamCreationTimestamp"]
        self.assertIsInstance(made, Time)
        self.assertLess(abs(made - time.time() * 1000), 600_000)
        self.call("PutRecord", StreamName=name, PartitionKey="k", Data=b"1")
        at = self.iterator(name, "shardId-000000000000", "AT_TIMESTAMP", Timestamp=Time(made - 1000))
        self.assertEqual(len(self.call("GetRecords", ShardIterator=at, Limit=10)["Records"]), 1)
        error = self.call(
            "GetShardIterator", 400, StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="AT_TIMESTAMP", Timestamp=1.5
        )
        self.assertEqual(error["__type"], "SerializationException")

    def test_the_shape_of_a_stream(self):
        name = self.name()
        self.assertIsNone(self.call("CreateStream", StreamName=name, ShardCount=2, Tags={"a": "b"}))
        shards = self.call("ListShards", StreamName=name)["Shards"]
        self.assertEqual([shard["ShardId"] for shard in shards], ["shardId-000000000000", "shardId-000000000001"])
        self.assertEqual(self.call("ListTagsForStream", StreamName=name), {"Tags": [{"Key": "a", "Value": "b"}], "HasMoreTags": False})
        self.call("MergeShards", StreamName=name, ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001")
        end = self.call("GetRecords", ShardIterator=self.iterator(name, "shardId-000000000001"))
        self.assertNotIn("NextShardIterator", end)
        [child] = end["ChildShards"]
        self.assertEqual(child["ParentShards"], ["shardId-000000000000", "shardId-000000000001"])
        self.assertEqual(child["HashKeyRange"], {"StartingHashKey": "0", "EndingHashKey": str(2**128 - 1)})
        self.call("DeleteStream", StreamName=name)

    def test_other_forms_of_the_same_request(self):
        name = self.stream()
        as_pieces = b"\x7f" + b"".join(head(3, 1) + letter.encode() for letter in name) + b"\xff"
        data = b"\x5f\x42ab\x40\x43cde\xff"
        members = {"StreamName": as_pieces, "PartitionKey": b"\x78\x01k", "Data": data, "Unknown": b"\xd9\x01\x00\x83\x01\xfa\x3f\x80\x00\x00\xf7"}
        body = head(5, len(members)) + b"".join(encode(member) + value for member, value in members.items())
        self.call("PutRecord", body=body)
        [record] = self.api.read_all(name)
        self.assertEqual((record["PartitionKey"], record["Data"]), ("k", "YWJjZGU="))

    def test_errors_come_in_cbor(self):
        error = self.call("DescribeStream", 400, StreamName="no-such-stream")
        self.assertEqual(error["__type"], "ResourceNotFoundException")
        self.assertIn("no-such-stream", error["message"])
        self.assertEqual(self.call("Nothing", 400, a=1)["__type"], "UnknownOperationException")
        error = self.call("PutRecord", 400, StreamName="s", PartitionKey="k", Data="text")
        self.assertEqual(error["Message"], "class java.lang.String can not be converted to a Blob")
        error = self.call("PutRecord", 400, StreamName="s", PartitionKey="", Data=b"")
        self.assertEqual(error["__type"], "ValidationException")

    def test_bodies_that_are_not_cbor(self):
        name = self.stream()
        whole = encode({"StreamName": name, "PartitionKey": "k", "Data": b"abc"})
        wrong = [b"\xff", b"\xbf", b"{}", b"\x00", whole[:-1], whole + b"\x00", whole[:-2], b"\x9f" * 100_000, b"\xbf\x61a" * 100_000]
        wrong += [b"\xbf\x7b" + b"\xff" * 8, b"\xbb" + b"\xff" * 8, b"\xbf\x01\x01\xff", b"\xbf\x61\xff\x01\xff", b"\xc1" * 100_000]
        for body in wrong:
            for operation in ("PutRecord", "PutRecords", "GetRecords", "DescribeStream"):
                error = self.call(operation, 400, body=body)
                self.assertEqual(error, {"__type": "SerializationException"}, body[:40])
        self.assertEqual(self.call("PutRecord", 400, body=b"")["__type"], "SerializationException")
        self.assertEqual(self.api.read_all(name), [])
        self.assertEqual(json.loads(self.api.send("ListStreams", b"{}")[2])["HasMoreStreams"], False)
