from appliance import ApiTest


class ListStreams(ApiTest):
    own = True

    def setUp(self):
        super().setUp()
        self.names = sorted(self.stream(StreamName=f"{letter}-{self.id()[-20:]}") for letter in "cabed")

    def test_in_order_of_name(self):
        told = self.api.call("ListStreams")
        self.assertEqual((told["StreamNames"], told["HasMoreStreams"]), (self.names, False))
        self.assertNotIn("NextToken", told)

    def test_summaries_say_the_same(self):
        told = self.api.call("ListStreams")
        self.assertEqual([one["StreamName"] for one in told["StreamSummaries"]], self.names)
        one = told["StreamSummaries"][0]
        self.assertEqual(set(one), {"StreamName", "StreamARN", "StreamStatus", "StreamModeDetails", "StreamCreationTimestamp"})
        self.assertEqual(one["StreamStatus"], "ACTIVE")

    def test_pages_by_name_and_by_token(self):
        first = self.api.call("ListStreams", Limit=2)
        self.assertEqual((first["StreamNames"], first["HasMoreStreams"]), (self.names[:2], True))
        by_name = self.api.call("ListStreams", Limit=2, ExclusiveStartStreamName=self.names[1])
        by_token = self.api.call("ListStreams", Limit=2, NextToken=first["NextToken"])
        self.assertEqual(by_name["StreamNames"], self.names[2:4])
        self.assertEqual(by_token["StreamNames"], self.names[2:4])
        last = self.api.call("ListStreams", ExclusiveStartStreamName=self.names[3])
        self.assertEqual((last["StreamNames"], last["HasMoreStreams"]), (self.names[4:], False))

    def test_a_start_need_not_exist(self):
        self.assertEqual(self.api.call("ListStreams", ExclusiveStartStreamName="b")["StreamNames"], self.names[1:])

    def test_constraints_are_named(self):
        self.invalid(
            "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
            "ListStreams", Limit=0,
        )  # fmt: skip
