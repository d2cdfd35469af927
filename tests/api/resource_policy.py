"""PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy: kept, replaced, gone with the stream. What they do is in access.py."""

import json
import unittest

from appliance import ApiTest, Appliance, Starts

PATTERN = "arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+"


def policy(*actions, principal="*", resource="*"):
    statement = {"Effect": "Allow", "Principal": principal, "Action": list(actions), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class ResourcePolicy(ApiTest):
    def arn(self, name):
        return self.description(name)["StreamARN"]

    def test_put_get_delete(self):
        arn = self.arn(self.stream())
        self.assertEqual(self.api.call("GetResourcePolicy", ResourceARN=arn), {"Policy": "{}"})
        for text in [policy("kinesis:PutRecord"), policy("kinesis:PutRecord", "kinesis:GetRecords", principal={"AWS": "000000000000"})]:
            self.assertEqual(self.api.call("PutResourcePolicy", ResourceARN=arn, Policy=text), {})
            self.assertEqual(self.api.call("GetResourcePolicy", ResourceARN=arn), {"Policy": text})
        self.assertEqual(self.api.call("DeleteResourcePolicy", ResourceARN=arn), {})
        self.assertEqual(self.api.call("GetResourcePolicy", ResourceARN=arn), {"Policy": "{}"})
        self.refuses("ResourceNotFoundException", f"No policy found for resource {arn}.", "DeleteResourcePolicy", ResourceARN=arn)

    def test_it_goes_with_the_stream(self):
        name = self.stream()
        arn = self.arn(name)
        self.api.call("PutResourcePolicy", ResourceARN=arn, Policy=policy("kinesis:*"))
        self.api.call("DeleteStream", StreamName=name)
        for operation, members in [("GetResourcePolicy", {}), ("DeleteResourcePolicy", {}), ("PutResourcePolicy", {"Policy": policy("*")})]:
            self.refuses("ResourceNotFoundException", f"Resource {arn} not found.", operation, ResourceARN=arn, **members)
        self.stream(StreamName=name)
        self.assertEqual(self.api.call("GetResourcePolicy", ResourceARN=arn), {"Policy": "{}"})

    def test_a_malformed_policy(self):
        arn = self.arn(self.stream())
        for text, why in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{}", "has no Statement"),
            (policy("PutRecord"), "Statement[0].Action: PutRecord is not an action, as in kinesis:PutRecord or kinesis:Get*"),
            (json.dumps({"Id": "x" * 20_481}), "the policy has 20491 bytes, 20480 are the most"),
        ]:
            message = f"The resource policy is malformed: {why}"
            self.refuses("InvalidArgumentException", message, "PutResourcePolicy", ResourceARN=arn, Policy=text)
        self.assertEqual(self.api.call("GetResourcePolicy", ResourceARN=arn), {"Policy": "{}"})

    def test_constraints(self):
        wrong = f"Value 'x' at 'resourceARN' failed to satisfy constraint: Member must satisfy regular expression pattern: {PATTERN}"
        self.invalid(wrong, "GetResourcePolicy", ResourceARN="x")
        self.invalid(wrong, "DeleteResourcePolicy", ResourceARN="x")
        null = "failed to satisfy constraint: Member must not be null"
        self.invalid(f"Value null at 'resourceARN' {null}", "GetResourcePolicy")
        arn = self.arn(self.stream())
        self.invalid(f"Value null at 'policy' {null}", "PutResourcePolicy", ResourceARN=arn)
        other = arn.replace(":000000000000:", ":000000000001:")
        self.assertEqual(self.refused("GetResourcePolicy", ResourceARN=other).type, "ResourceNotFoundException")
        consumer = arn + "/consumer/none:1700000000"
        self.assertEqual(self.refused("GetResourcePolicy", ResourceARN=consumer).type, "ResourceNotFoundException")


class Restart(unittest.TestCase, Starts):
    def test_a_policy_is_durable(self):
        server = Appliance()
        self.addCleanup(server.remove)
        api = self.ready(server)
        api.call("CreateStream", StreamName="s", ShardCount=1)
        arn, text = "arn:aws:kinesis:us-east-1:000000000000:stream/s", policy("kinesis:GetRecords")
        api.call("PutResourcePolicy", ResourceARN=arn, Policy=text)
        server.kill()
        self.assertEqual(self.ready(server).call("GetResourcePolicy", ResourceARN=arn), {"Policy": text})


if __name__ == "__main__":
    unittest.main()
