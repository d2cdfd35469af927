from appliance import ApiTest


class ListTagsForStream(ApiTest):
    def test_tags_of_creation_are_kept_in_order(self):
        name = self.stream(Tags={"team": "grid", "Cost": "42", "empty": ""})
        told = self.api.call("ListTagsForStream", StreamName=name)
        self.assertEqual(told["HasMoreTags"], False)
        expect = [{"Key": "Cost", "Value": "42"}, {"Key": "empty", "Value": ""}, {"Key": "team", "Value": "grid"}]
        self.assertEqual(told["Tags"], expect)

    def test_pages(self):
        name = self.stream(Tags={f"k{n}": str(n) for n in range(5)})
        first = self.api.call("ListTagsForStream", StreamName=name, Limit=2)
        self.assertEqual(([tag["Key"] for tag in first["Tags"]], first["HasMoreTags"]), (["k0", "k1"], True))
        rest = self.api.call("ListTagsForStream", StreamName=name, ExclusiveStartTagKey="k1")
        self.assertEqual(([tag["Key"] for tag in rest["Tags"]], rest["HasMoreTags"]), (["k2", "k3", "k4"], False))

    def test_a_stream_without_tags(self):
        self.assertEqual(self.api.call("ListTagsForStream", StreamName=self.stream()), {"Tags": [], "HasMoreTags": False})

    def test_too_many_tags_are_refused(self):
        error = self.refused("CreateStream", StreamName=self.name(), ShardCount=1, Tags={f"k{n}": "v" for n in range(51)})
        self.assertIn(error.type, ("InvalidArgumentException", "ValidationException", "LimitExceededException"))

    def test_an_unknown_stream(self):
        self.assertEqual(self.refused("ListTagsForStream", StreamName="nobody").type, "ResourceNotFoundException")
