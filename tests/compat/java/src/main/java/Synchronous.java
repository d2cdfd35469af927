import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.SdkSystemSetting;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.ChildShard;
import software.amazon.awssdk.services.kinesis.model.GetRecordsResponse;
import software.amazon.awssdk.services.kinesis.model.InvalidArgumentException;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;
import software.amazon.awssdk.services.kinesis.model.Record;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.awssdk.services.kinesis.model.StreamStatus;

/** What an unmodified AWS SDK for Java does with a stream, from its making to its deletion. Ends with an error at the first surprise. */
public final class Synchronous {
    private static final String STREAM = "compat-java";
    private static final Instant BEGAN = Instant.now();

    private record Stored(String number, String key, SdkBytes data) {}

    public static void main(String[] arguments) {
        Trial.check(SdkSystemSetting.CBOR_ENABLED.getBooleanValueOrThrow(), "the SDK speaks CBOR unless told otherwise");
        try (KinesisClient client = KinesisClient.builder().endpointOverride(Trial.ENDPOINT).region(Region.US_EAST_1)
                .credentialsProvider(Trial.CREDENTIALS).build()) {
            client.createStream(r -> r.streamName(STREAM).shardCount(2));
            var summary = client.describeStreamSummary(r -> r.streamName(STREAM)).streamDescriptionSummary();
            Trial.check(summary.streamStatus() == StreamStatus.ACTIVE && summary.openShardCount() == 2, summary);
            checkRecent(summary.streamCreationTimestamp());
            Trial.passed("create, describe");

            List<Stored> put = putAll(client);
            Trial.passed("500 records in one put, one of 900 kB");
            Trial.check(readAll(client).equals(put), "every record comes back with its number, key and bytes");
            Trial.passed("every record read with its number, key and bytes");
            readFromTime(client, put.size());
            Trial.passed("read from a time");
            reshard(client);
            Trial.passed("split, end of a shard");
            refusals(client);
            Trial.passed("errors by type");

            client.deleteStream(r -> r.streamName(STREAM));
            Trial.check(!client.listStreams().streamNames().contains(STREAM), "the stream is gone");
            Trial.passed("delete");
        }
    }

    private static SdkBytes data(int n) {
        byte[] bytes = new byte[n * 7];
        IntStream.range(0, bytes.length).forEach(i -> bytes[i] = (byte) (i * n));
        return SdkBytes.fromByteArray(bytes);
    }

    private static List<Stored> putAll(KinesisClient client) {
        List<PutRecordsRequestEntry> entries = IntStream.range(0, 500)
                .mapToObj(n -> PutRecordsRequestEntry.builder().data(data(n)).partitionKey("clé-" + n).build()).toList();
        var answer = client.putRecords(r -> r.streamName(STREAM).records(entries));
        Trial.check(answer.failedRecordCount() == 0 && answer.records().size() == 500, answer);
        List<Stored> stored = new ArrayList<>();
        for (int n = 0; n < 500; n++) {
            stored.add(new Stored(answer.records().get(n).sequenceNumber(), "clé-" + n, data(n)));
        }
        SdkBytes alone = SdkBytes.fromByteArray(new byte[900_000]);
        var one = client.putRecord(r -> r.streamName(STREAM).partitionKey("one").explicitHashKey("7").data(alone));
        Trial.check(one.shardId().equals("shardId-000000000000"), one);
        stored.add(new Stored(one.sequenceNumber(), "one", alone));
        stored.sort((a, b) -> a.number().compareTo(b.number()));
        return stored;
    }

    private static List<Record> read(KinesisClient client, String first) {
        List<Record> records = new ArrayList<>();
        String iterator = first;
        while (iterator != null) {
            String from = iterator;
            GetRecordsResponse answer = client.getRecords(r -> r.shardIterator(from).limit(100));
            records.addAll(answer.records());
            iterator = answer.millisBehindLatest() == 0 ? null : answer.nextShardIterator();
        }
        return records;
    }

    private static List<Stored> readAll(KinesisClient client) {
        List<Stored> stored = new ArrayList<>();
        client.listShards(r -> r.streamName(STREAM)).shards().forEach(shard -> {
            String iterator = client.getShardIterator(r -> r.streamName(STREAM).shardId(shard.shardId())
                    .shardIteratorType(ShardIteratorType.TRIM_HORIZON)).shardIterator();
            read(client, iterator).forEach(record -> {
                checkRecent(record.approximateArrivalTimestamp());
                stored.add(new Stored(record.sequenceNumber(), record.partitionKey(), record.data()));
            });
        });
        stored.sort((a, b) -> a.number().compareTo(b.number()));
        return stored;
    }

    /** A time goes there and back. */
    private static void readFromTime(KinesisClient client, int all) {
        int found = 0;
        for (String shard : List.of("shardId-000000000000", "shardId-000000000001")) {
            String iterator = client.getShardIterator(r -> r.streamName(STREAM).shardId(shard)
                    .shardIteratorType(ShardIteratorType.AT_TIMESTAMP).timestamp(BEGAN.minusSeconds(60))).shardIterator();
            found += read(client, iterator).size();
        }
        Trial.check(found == all, found);
    }

    private static void reshard(KinesisClient client) {
        client.splitShard(r -> r.streamName(STREAM).shardToSplit("shardId-000000000000").newStartingHashKey("1000"));
        long children = client.listShards(r -> r.streamName(STREAM)).shards().stream()
                .filter(shard -> "shardId-000000000000".equals(shard.parentShardId())).count();
        Trial.check(children == 2, children);
        String iterator = client.getShardIterator(r -> r.streamName(STREAM).shardId("shardId-000000000000")
                .shardIteratorType(ShardIteratorType.LATEST)).shardIterator();
        GetRecordsResponse end = client.getRecords(r -> r.shardIterator(iterator));
        List<ChildShard> told = end.childShards();
        Trial.check(end.nextShardIterator() == null && told.size() == 2, end);
        Trial.check(told.get(0).parentShards().equals(List.of("shardId-000000000000")), told);
    }

    private static void refusals(KinesisClient client) {
        try {
            client.describeStream(r -> r.streamName("no-such-stream"));
            Trial.check(false, "the stream does not exist");
        } catch (ResourceNotFoundException error) {
            Trial.check(error.awsErrorDetails().errorMessage().contains("no-such-stream"), error);
        }
        try {
            client.getRecords(r -> r.shardIterator("nonsense"));
            Trial.check(false, "there is no such iterator");
        } catch (InvalidArgumentException error) {
            Trial.check(error.statusCode() == 400 && error.requestId() != null, error);
        }
    }

    private static void checkRecent(Instant at) {
        Duration off = Duration.between(BEGAN, at).abs();
        Trial.check(off.compareTo(Duration.ofMinutes(10)) < 0, at);
    }
}
