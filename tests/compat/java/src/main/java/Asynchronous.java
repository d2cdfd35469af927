import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.stream.IntStream;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.SdkSystemSetting;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.model.GetRecordsResponse;
import software.amazon.awssdk.services.kinesis.model.InvalidArgumentException;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;
import software.amazon.awssdk.services.kinesis.model.ResourceInUseException;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;

/** What the asynchronous client does with a stream: Netty, HTTP/2 by prior knowledge, CBOR, as its builder makes it. */
public final class Asynchronous {
    private static final String STREAM = "compat-java-asynchronous";
    private static final String FIRST = "shardId-000000000000";
    private static final int AT_ONCE = 1000;

    private record Stored(String number, String key, SdkBytes data) {}

    public static void main(String[] arguments) {
        Trial.check(SdkSystemSetting.CBOR_ENABLED.getBooleanValueOrThrow(), "the SDK speaks CBOR unless told otherwise");
        try (KinesisAsyncClient client = KinesisAsyncClient.builder().endpointOverride(Trial.ENDPOINT).region(Region.US_EAST_1)
                .credentialsProvider(Trial.CREDENTIALS).build()) {
            client.createStream(r -> r.streamName(STREAM).shardCount(2)).join();
            client.waiter().waitUntilStreamExists(r -> r.streamName(STREAM)).join();
            Trial.passed("create, wait");
            List<Stored> put = putAtOnce(client);
            putMany(client, put);
            putLarge(client, put);
            put.sort(Comparator.comparing(Stored::number));
            List<Stored> read = readAll(client);
            Trial.check(read.equals(put), read.size() + " records came back, or not the same: " + put.size() + " were put");
            Trial.passed("every record read with its number, key and bytes");
            refusals(client);
            settle(client);
        }
    }

    private static SdkBytes data(int n) {
        byte[] bytes = new byte[n];
        Arrays.fill(bytes, (byte) n);
        return SdkBytes.fromByteArray(bytes);
    }

    private static CompletableFuture<Stored> put(KinesisAsyncClient client, String key, SdkBytes data) {
        return client.putRecord(r -> r.streamName(STREAM).partitionKey(key).data(data))
                .thenApply(place -> new Stored(place.sequenceNumber(), key, data));
    }

    /** More than one connection takes at a time, and fewer than the client keeps waiting. */
    private static List<Stored> putAtOnce(KinesisAsyncClient client) {
        var asked = IntStream.range(0, AT_ONCE).mapToObj(n -> put(client, "at once " + n, data(n))).toList();
        List<Stored> stored = new ArrayList<>(asked.stream().map(CompletableFuture::join).toList());
        Trial.passed(AT_ONCE + " puts at once");
        return stored;
    }

    private static void putMany(KinesisAsyncClient client, List<Stored> stored) {
        List<PutRecordsRequestEntry> entries = IntStream.range(0, 500)
                .mapToObj(n -> PutRecordsRequestEntry.builder().data(data(n * 7)).partitionKey("clé-" + n).build()).toList();
        var answer = client.putRecords(r -> r.streamName(STREAM).records(entries)).join();
        Trial.check(answer.failedRecordCount() == 0, answer);
        IntStream.range(0, 500).forEach(n -> stored.add(
                new Stored(answer.records().get(n).sequenceNumber(), "clé-" + n, data(n * 7))));
        Trial.passed("500 records in one put");
    }

    /** The largest that AWS takes: key and data are a mebibyte. Several at once fill every window of flow control. */
    private static void putLarge(KinesisAsyncClient client, List<Stored> stored) {
        SdkBytes largest = data((1 << 20) - 5);
        var asked = IntStream.range(0, 8).mapToObj(n -> put(client, "large", largest)).toList();
        asked.forEach(one -> stored.add(one.join()));
        Trial.passed("8 records of 1 MiB at once");
    }

    private static List<Stored> readAll(KinesisAsyncClient client) {
        List<Stored> stored = new ArrayList<>();
        client.listShards(r -> r.streamName(STREAM)).join().shards().forEach(shard -> {
            String iterator = client.getShardIterator(r -> r.streamName(STREAM).shardId(shard.shardId())
                    .shardIteratorType(ShardIteratorType.TRIM_HORIZON)).join().shardIterator();
            while (iterator != null) {
                String from = iterator;
                GetRecordsResponse answer = client.getRecords(r -> r.shardIterator(from)).join();
                answer.records().forEach(record -> stored.add(
                        new Stored(record.sequenceNumber(), record.partitionKey(), record.data())));
                iterator = answer.millisBehindLatest() == 0 ? null : answer.nextShardIterator();
            }
        });
        stored.sort(Comparator.comparing(Stored::number));
        return stored;
    }

    private static void refused(Class<?> type, CompletableFuture<?> asked) {
        try {
            Trial.check(false, "this must be refused with " + type + ": " + asked.join());
        } catch (CompletionException error) {
            Trial.check(type.isInstance(error.getCause()), error);
        }
    }

    private static void refusals(KinesisAsyncClient client) {
        refused(ResourceNotFoundException.class, client.describeStream(r -> r.streamName("no-such-stream")));
        refused(ResourceInUseException.class, client.createStream(r -> r.streamName(STREAM).shardCount(1)));
        refused(InvalidArgumentException.class, client.getRecords(r -> r.shardIterator("nonsense")));
        Trial.passed("errors by type");
    }

    private static void settle(KinesisAsyncClient client) {
        client.increaseStreamRetentionPeriod(r -> r.streamName(STREAM).retentionPeriodHours(48)).join();
        client.splitShard(r -> r.streamName(STREAM).shardToSplit(FIRST).newStartingHashKey("1000")).join();
        var summary = client.describeStreamSummary(r -> r.streamName(STREAM)).join().streamDescriptionSummary();
        Trial.check(summary.openShardCount() == 3 && summary.retentionPeriodHours() == 48, summary);
        client.deleteStream(r -> r.streamName(STREAM)).join();
        Trial.check(!client.listStreams().join().streamNames().contains(STREAM), "the stream is gone");
        Trial.passed("retention, split, delete");
    }
}
