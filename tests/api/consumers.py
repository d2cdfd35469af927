import unittest

from appliance import FOREIGN, ApiTest, Appliance, Starts, eventually


class Consumers(ApiTest):
    def arn(self, name):
        return self.description(name)["StreamARN"]

    def register(self, arn, name, **members):
        return self.api.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName=name, **members)["Consumer"]

    def names(self, arn, **members):
        return [consumer["ConsumerName"] for consumer in self.api.call("ListStreamConsumers", StreamARN=arn, **members)["Consumers"]]

    def test_shape(self):
        stream = self.stream()
        arn = self.arn(stream)
        consumer = self.register(arn, "c-1", Tags={"a": "1"})
        self.assertEqual(set(consumer), {"ConsumerName", "ConsumerARN", "ConsumerStatus", "ConsumerCreationTimestamp"})
        self.assertEqual((consumer["ConsumerName"], consumer["ConsumerStatus"]), ("c-1", "ACTIVE"))
        created = int(consumer["ConsumerCreationTimestamp"])
        self.assertEqual(consumer["ConsumerARN"], f"{arn}/consumer/c-1:{created}")
        for named in ({"ConsumerARN": consumer["ConsumerARN"]}, {"StreamARN": arn, "ConsumerName": "c-1"}):
            for both in (named, {"ConsumerARN": consumer["ConsumerARN"], "StreamARN": arn, "ConsumerName": "c-1"}):
                described = self.api.call("DescribeStreamConsumer", **both)["ConsumerDescription"]
                self.assertEqual(described, consumer | {"StreamARN": arn})
        self.assertEqual(self.api.call("ListStreamConsumers", StreamARN=arn), {"Consumers": [consumer]})
        summary = self.api.call("DescribeStreamSummary", StreamName=stream)["StreamDescriptionSummary"]
        self.assertEqual(summary["ConsumerCount"], 1)
        self.deregister(stream, ConsumerARN=consumer["ConsumerARN"])

    def deregister(self, stream, **members):
        self.assertEqual(self.api.call("DeregisterStreamConsumer", **members), {})

    def test_a_name_is_used_once_at_a_time(self):
        stream = self.stream()
        arn, account = self.arn(stream), self.account(stream)
        self.register(arn, "c")
        text = f"Consumer c under stream {stream} already exists for account {account}."
        self.refuses("ResourceInUseException", text, "RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")
        self.deregister(stream, StreamARN=arn, ConsumerName="c")
        gone = f"Consumer c under stream {stream} not found for account {account}."
        for operation in ("DescribeStreamConsumer", "DeregisterStreamConsumer"):
            self.refuses("ResourceNotFoundException", gone, operation, StreamARN=arn, ConsumerName="c")
        self.register(arn, "c")
        self.deregister(stream, StreamARN=arn, ConsumerName="c")

    def test_an_arn_is_of_one_creation(self):
        stream = self.stream()
        consumer = self.register(self.arn(stream), "c")
        other = consumer["ConsumerARN"][:-1] + str((int(consumer["ConsumerARN"][-1]) + 1) % 10)
        self.assertEqual(self.refused("DescribeStreamConsumer", ConsumerARN=other).type, "ResourceNotFoundException")
        self.assertEqual(self.refused("DeregisterStreamConsumer", ConsumerARN=other).type, "ResourceNotFoundException")
        self.deregister(stream, ConsumerARN=consumer["ConsumerARN"])

    def test_twenty_a_stream_listed_in_pages(self):
        stream = self.stream()
        arn = self.arn(stream)
        names = [f"c{n:02}" for n in range(20)]
        for name in reversed(names):
            self.register(arn, name)
        error = self.refused("RegisterStreamConsumer", StreamARN=arn, ConsumerName="more")
        self.assertEqual((error.status, error.type), (400, "LimitExceededException"))
        self.assertEqual(self.names(arn), names)
        found, page = [], self.api.call("ListStreamConsumers", StreamARN=arn, MaxResults=7)
        while True:
            found.append([consumer["ConsumerName"] for consumer in page["Consumers"]])
            if "NextToken" not in page:
                break
            page = self.api.call("ListStreamConsumers", StreamARN=arn, MaxResults=7, NextToken=page["NextToken"])
        self.assertEqual(found, [names[:7], names[7:14], names[14:]])
        self.refuses(
            "InvalidArgumentException", "Invalid NextToken.", "ListStreamConsumers", StreamARN=arn, NextToken="AAAA"
        )  # fmt: skip
        self.api.call("DeleteStream", StreamName=stream, EnforceConsumerDeletion=True)

    def test_a_stream_is_listed_by_its_creation(self):
        stream = self.stream()
        arn, created = self.arn(stream), self.description(stream)["StreamCreationTimestamp"]
        self.assertEqual(self.names(arn, StreamCreationTimestamp=created), [])
        error = self.refused("ListStreamConsumers", StreamARN=arn, StreamCreationTimestamp=created - 100)
        self.assertEqual(error.type, "ResourceNotFoundException")

    def test_consumers_keep_a_stream_unless_it_is_enforced(self):
        stream = self.stream()
        arn = self.arn(stream)
        consumer = self.register(arn, "c")
        text = (
            f"DeleteStream can't delete {arn} because there are consumers associated with this data stream. To delete {stream} anyway, set "
            "the EnforceConsumerDeletion parameter to true to force the deletion of all the consumers that are associated with it."
        )
        self.refuses("ResourceInUseException", text, "DeleteStream", StreamName=stream)
        self.refuses("ResourceInUseException", text, "DeleteStream", StreamName=stream, EnforceConsumerDeletion=False)
        self.api.call("DeleteStream", StreamName=stream, EnforceConsumerDeletion=True)
        self.assertTrue(eventually(lambda: stream not in self.api.call("ListStreams")["StreamNames"]))
        self.stream(StreamName=stream)
        self.assertEqual(self.names(arn), [])
        self.assertEqual(self.refused("DescribeStreamConsumer", ConsumerARN=consumer["ConsumerARN"]).type, "ResourceNotFoundException")

    def test_what_is_wrong_is_named(self):
        stream = self.stream()
        arn = self.arn(stream)
        missing = "failed to satisfy constraint: Member must not be null"
        self.invalid(f"Value null at 'consumerName' {missing}", "RegisterStreamConsumer", StreamARN=arn)
        self.invalid(f"Value null at 'streamARN' {missing}", "ListStreamConsumers")
        self.invalid(
            "Value 'a b' at 'consumerName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
            "RegisterStreamConsumer", StreamARN=arn, ConsumerName="a b",
        )  # fmt: skip
        self.assertEqual(self.refused("DescribeStreamConsumer", ConsumerARN=arn).type, "ValidationException")
        for members in ({}, {"StreamARN": arn}, {"ConsumerName": "c"}):
            error = self.refused("DescribeStreamConsumer", **members)
            self.assertEqual(error.type, "InvalidArgumentException", members)
        error = self.refused("DescribeStreamConsumer", ConsumerARN=f"{arn}/consumer/c:1", ConsumerName="d")
        self.assertEqual(error.type, "InvalidArgumentException")
        none = arn.replace(stream, "none")
        for operation in ("RegisterStreamConsumer", "DescribeStreamConsumer", "DeregisterStreamConsumer"):
            self.assertEqual(self.refused(operation, StreamARN=none, ConsumerName="c").type, "ResourceNotFoundException")
        self.assertEqual(self.refused("ListStreamConsumers", StreamARN=none).type, "ResourceNotFoundException")
        for tags in ({"aws:x": "1"}, {"a": "\u0007"}, {f"k{n}": "" for n in range(51)}):
            error = self.refused("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c", Tags=tags)
            self.assertEqual(error.type, "InvalidArgumentException")
        self.assertEqual(self.names(arn), [])

    def test_cbor(self):
        stream = self.stream()
        arn = self.arn(stream).encode()
        text = lambda value: b"\x78" + bytes([len(value)]) + value
        body = b"\xa2" + text(b"StreamARN") + text(arn) + text(b"ConsumerName") + text(b"c")
        status, _, answer = self.api.send("RegisterStreamConsumer", body, {"Content-Type": "application/x-amz-cbor-1.1"})
        self.assertEqual(status, 200)
        self.assertIn(b"\x78\x19ConsumerCreationTimestamp\xc1\x1b", answer)
        self.deregister(stream, StreamARN=arn.decode(), ConsumerName="c")


@unittest.skipIf(FOREIGN, "kills the server")
class AfterACrash(Starts, unittest.TestCase):
    def test_consumers_survive(self):
        server = Appliance()
        self.addCleanup(server.remove)
        api = self.ready(server)
        api.call("CreateStream", StreamName="s", ShardCount=1)
        arn = api.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
        kept = api.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="kept")["Consumer"]
        api.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="gone")
        api.call("DeregisterStreamConsumer", StreamARN=arn, ConsumerName="gone")
        server.kill()
        api = self.ready(server)
        self.assertEqual(api.call("ListStreamConsumers", StreamARN=arn)["Consumers"], [kept])
