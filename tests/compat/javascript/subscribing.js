// SubscribeToShard as the AWS SDK for JavaScript does it: HTTP/2 by prior knowledge, while records are put, to the end of a shard.

import assert from "node:assert/strict";
import {
  KinesisClient,
  ResourceNotFoundException,
  CreateStreamCommand,
  DeleteStreamCommand,
  DescribeStreamConsumerCommand,
  DescribeStreamSummaryCommand,
  PutRecordCommand,
  RegisterStreamConsumerCommand,
  SplitShardCommand,
  SubscribeToShardCommand,
} from "@aws-sdk/client-kinesis";

const STREAM = "compat-javascript-subscribing";
const ShardId = "shardId-000000000000";
const kinesis = new KinesisClient({
  endpoint: process.env.AWS_ENDPOINT_URL_KINESIS,
  region: "us-east-1",
  credentials: { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY },
  maxAttempts: 1,
});
const send = (command) => kinesis.send(command);
const passed = (what) => console.log(`passed: ${what}`);
const subscribed = (ConsumerARN, shard) =>
  send(new SubscribeToShardCommand({ ConsumerARN, ShardId: shard, StartingPosition: { Type: "TRIM_HORIZON" } }));

async function putSome(first, count) {
  const numbers = [];
  for (let n = first; n < first + count; n++) {
    const put = { StreamName: STREAM, PartitionKey: `k${n}`, Data: new Uint8Array(n * 20) };
    numbers.push((await send(new PutRecordCommand(put))).SequenceNumber);
  }
  return numbers;
}

async function collect(answer) {
  const numbers = [];
  let last;
  for await (const { SubscribeToShardEvent: event } of answer.EventStream) {
    assert(event, "nothing but events comes");
    numbers.push(...event.Records.map((record) => record.SequenceNumber));
    last = event;
  }
  return { numbers, last };
}

await send(new CreateStreamCommand({ StreamName: STREAM, ShardCount: 1 }));
const { StreamDescriptionSummary: summary } = await send(new DescribeStreamSummaryCommand({ StreamName: STREAM }));
const registering = { StreamARN: summary.StreamARN, ConsumerName: "javascript" };
const { Consumer: consumer } = await send(new RegisterStreamConsumerCommand(registering));
const { ConsumerDescription: described } = await send(new DescribeStreamConsumerCommand({ ConsumerARN: consumer.ConsumerARN }));
assert.equal(described.ConsumerStatus, "ACTIVE");
passed("register, describe");

const before = await putSome(0, 100);
const collecting = collect(await subscribed(consumer.ConsumerARN, ShardId));
const during = await putSome(100, 200);
await send(new SplitShardCommand({ StreamName: STREAM, ShardToSplit: ShardId, NewStartingHashKey: "1000" }));
const { numbers, last } = await collecting;
assert.deepEqual(numbers, [...before, ...during]);
assert.deepEqual(last.ChildShards.map((child) => child.ParentShards), [[ShardId], [ShardId]]);
passed("every record in order, to the end of the shard");
await assert.rejects(subscribed(consumer.ConsumerARN, "shardId-000000000099"), ResourceNotFoundException);
passed("errors by type");
await send(new DeleteStreamCommand({ StreamName: STREAM, EnforceConsumerDeletion: true }));
passed("delete");
