// What an unmodified AWS SDK for JavaScript does with a stream, from its making to its deletion: no request handler is given, so that it
// speaks HTTP/2 by prior knowledge. Says `passed: ...` after each part, and ends with an error at the first surprise.

import assert from "node:assert/strict";
import {
  InvalidArgumentException,
  KinesisClient,
  KinesisServiceException,
  ResourceInUseException,
  ResourceNotFoundException,
  paginateListStreams,
  waitUntilStreamExists,
  waitUntilStreamNotExists,
  CreateStreamCommand,
  DecreaseStreamRetentionPeriodCommand,
  DeleteStreamCommand,
  DescribeStreamCommand,
  DescribeStreamSummaryCommand,
  GetRecordsCommand,
  GetShardIteratorCommand,
  IncreaseStreamRetentionPeriodCommand,
  ListShardsCommand,
  ListTagsForStreamCommand,
  MergeShardsCommand,
  PutRecordCommand,
  PutRecordsCommand,
  SplitShardCommand,
} from "@aws-sdk/client-kinesis";

const STREAM = "compat-javascript";
const FIRST = "shardId-000000000000";
const kinesis = new KinesisClient({
  endpoint: process.env.AWS_ENDPOINT_URL_KINESIS,
  region: "us-east-1",
  credentials: { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY },
  maxAttempts: 1,
});
const asked = { StreamName: STREAM };
const wait = { client: kinesis, maxWaitTime: 30, minDelay: 1 };
const send = (command) => kinesis.send(command);
const compare = (a, b) => (a < b ? -1 : 1);
const listed = (records) => records.toSorted((a, b) => compare(a.number, b.number));
const data = (n) => Uint8Array.from({ length: n * 7 }, (_, i) => i * n);

async function made() {
  await send(new CreateStreamCommand({ ...asked, ShardCount: 2, Tags: { team: "flights", "clé": "" } }));
  await waitUntilStreamExists(wait, asked);
  const { StreamDescriptionSummary: summary } = await send(new DescribeStreamSummaryCommand(asked));
  assert.equal(summary.OpenShardCount, 2);
  assert(summary.StreamCreationTimestamp instanceof Date);
  const { StreamDescription: described } = await send(new DescribeStreamCommand(asked));
  assert.deepEqual([described.StreamStatus, described.Shards.length, described.HasMoreShards], ["ACTIVE", 2, false]);
  const { Tags: tags } = await send(new ListTagsForStreamCommand(asked));
  assert.deepEqual(tags.toSorted((a, b) => compare(a.Key, b.Key)), [{ Key: "clé", Value: "" }, { Key: "team", Value: "flights" }]);
}

async function readShard(ShardId) {
  let { ShardIterator: iterator } = await send(new GetShardIteratorCommand({ ...asked, ShardId, ShardIteratorType: "TRIM_HORIZON" }));
  const found = [];
  while (iterator) {
    const answer = await send(new GetRecordsCommand({ ShardIterator: iterator, Limit: 100 }));
    for (const record of answer.Records) {
      assert(Math.abs(Date.now() - record.ApproximateArrivalTimestamp) < 600_000, record.ApproximateArrivalTimestamp);
      found.push({ number: record.SequenceNumber, key: record.PartitionKey, data: Buffer.from(record.Data) });
    }
    if (answer.MillisBehindLatest === 0) break;
    iterator = answer.NextShardIterator;
  }
  return found;
}

async function readAll() {
  const { Shards: shards } = await send(new ListShardsCommand(asked));
  return listed((await Promise.all(shards.map((shard) => readShard(shard.ShardId)))).flat());
}

async function putMany() {
  const entries = Array.from({ length: 500 }, (_, n) => ({ Data: data(n), PartitionKey: `clé-${n}` }));
  const answer = await send(new PutRecordsCommand({ ...asked, Records: entries }));
  assert.equal(answer.FailedRecordCount, 0);
  return answer.Records.map((place, n) => ({ number: place.SequenceNumber, key: `clé-${n}`, data: Buffer.from(data(n)) }));
}

async function putOne(key, bytes) {
  const place = await send(new PutRecordCommand({ ...asked, PartitionKey: key, Data: bytes }));
  assert.match(place.ShardId, /^shardId-\d{12}$/);
  return { number: place.SequenceNumber, key, data: Buffer.from(bytes) };
}

/** The SDK opens a connection for each of these requests. */
async function putAtOnce() {
  return Promise.all(Array.from({ length: 100 }, (_, n) => putOne(`at once ${n}`, data(n))));
}

async function retention() {
  const hours = async () => (await send(new DescribeStreamSummaryCommand(asked))).StreamDescriptionSummary.RetentionPeriodHours;
  await send(new IncreaseStreamRetentionPeriodCommand({ ...asked, RetentionPeriodHours: 48 }));
  assert.equal(await hours(), 48);
  await send(new DecreaseStreamRetentionPeriodCommand({ ...asked, RetentionPeriodHours: 24 }));
  assert.equal(await hours(), 24);
}

async function resharded() {
  await send(new SplitShardCommand({ ...asked, ShardToSplit: FIRST, NewStartingHashKey: "1000" }));
  const [lower, upper] = ["shardId-000000000002", "shardId-000000000003"];
  await send(new MergeShardsCommand({ ...asked, ShardToMerge: lower, AdjacentShardToMerge: upper }));
  const { Shards: shards } = await send(new ListShardsCommand(asked));
  assert.deepEqual(shards.map((shard) => shard.ParentShardId), [undefined, undefined, FIRST, FIRST, lower]);
  assert.equal(shards[4].AdjacentParentShardId, upper);
  const { ShardIterator } = await send(new GetShardIteratorCommand({ ...asked, ShardId: FIRST, ShardIteratorType: "LATEST" }));
  const end = await send(new GetRecordsCommand({ ShardIterator }));
  assert.equal(end.NextShardIterator, undefined);
  assert.deepEqual(end.ChildShards.map((child) => child.ShardId), [lower, upper]);
}

async function refused() {
  const missing = { StreamName: "no-such-stream" };
  await assert.rejects(send(new DescribeStreamCommand(missing)), (error) => {
    assert(error instanceof ResourceNotFoundException);
    assert.match(error.message, /no-such-stream/);
    assert(error.$metadata.requestId);
    return error.$metadata.httpStatusCode === 400;
  });
  await assert.rejects(send(new CreateStreamCommand({ ...asked, ShardCount: 1 })), ResourceInUseException);
  await assert.rejects(send(new GetRecordsCommand({ ShardIterator: "nonsense" })), InvalidArgumentException);
  await assert.rejects(send(new CreateStreamCommand({ StreamName: "no spaces", ShardCount: 1 })), (error) => {
    return error instanceof KinesisServiceException && error.name === "ValidationException";
  });
}

async function deleted() {
  await send(new DeleteStreamCommand(asked));
  await waitUntilStreamNotExists(wait, asked);
  for await (const page of paginateListStreams({ client: kinesis, pageSize: 1 }, {})) {
    assert(!page.StreamNames.includes(STREAM));
  }
}

const passed = (what) => console.log(`passed: ${what}`);
await made();
passed("create, describe, tags");
const put = listed([...(await putMany()), await putOne("large", new Uint8Array((1 << 20) - 5).fill(7)), ...(await putAtOnce())]);
passed("500 records in one put, a record of 1 MiB, 100 puts at once");
assert.deepEqual(await readAll(), put);
passed("every record read with its number, key and bytes");
await retention();
passed("retention");
await resharded();
passed("split, merge");
await refused();
passed("errors by type");
await deleted();
passed("delete");
