import com.google.protobuf.ByteString;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.kpl.Messages;

/** Records that hold records, as the producer library makes them, go through byte for byte, and the client library takes them apart. */
public final class Aggregated {
    private static final String STREAM = "compat-aggregated";
    private static final int INSIDE = 40;
    private static final BigInteger HASH_END = BigInteger.ONE.shiftLeft(128).subtract(BigInteger.ONE);

    public static void main(String[] arguments) throws IOException, NoSuchAlgorithmException {
        try (KinesisClient client = KinesisClient.builder().endpointOverride(Trial.ENDPOINT).region(Region.US_EAST_1)
                .credentialsProvider(Trial.CREDENTIALS).build()) {
            client.createStream(r -> r.streamName(STREAM).shardCount(1));
            List<SdkBytes> put = List.of(aggregate(0), aggregate(1), aggregate(2));
            client.putRecord(r -> r.streamName(STREAM).partitionKey("a").data(put.get(0)));
            List<PutRecordsRequestEntry> entries = put.subList(1, 3).stream()
                    .map(data -> PutRecordsRequestEntry.builder().partitionKey("a").explicitHashKey("7").data(data).build()).toList();
            Trial.check(client.putRecords(r -> r.streamName(STREAM).records(entries)).failedRecordCount() == 0, "all are stored");

            String iterator = client.getShardIterator(r -> r.streamName(STREAM).shardId("shardId-000000000000")
                    .shardIteratorType(ShardIteratorType.TRIM_HORIZON)).shardIterator();
            var read = client.getRecords(r -> r.shardIterator(iterator)).records();
            Trial.check(read.stream().map(r -> r.data()).toList().equals(put), "the bytes are the same");
            Trial.passed("aggregated records come back byte for byte");
            List<KinesisClientRecord> outer = read.stream().map(KinesisClientRecord::fromRecord).toList();
            takeApart(new AggregatorUtil().deaggregate(outer, BigInteger.ZERO, HASH_END), outer);
            Trial.passed("the KCL takes " + put.size() * INSIDE + " records out of " + put.size());
            client.deleteStream(r -> r.streamName(STREAM));
        }
    }

    private static String text(int outer, int inner) {
        return "record " + inner + " of " + outer;
    }

    /** Two keys in the table, used in turn; every fourth record has a hash key of its own. */
    private static SdkBytes aggregate(int outer) throws IOException, NoSuchAlgorithmException {
        var whole = Messages.AggregatedRecord.newBuilder().addPartitionKeyTable("even").addPartitionKeyTable("clé")
                .addExplicitHashKeyTable("12345");
        for (int n = 0; n < INSIDE; n++) {
            var one = Messages.Record.newBuilder().setPartitionKeyIndex(n % 2).setData(ByteString.copyFromUtf8(text(outer, n)));
            whole.addRecords(n % 4 == 0 ? one.setExplicitHashKeyIndex(0) : one);
        }
        byte[] message = whole.build().toByteArray();
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        bytes.write(new byte[] {(byte) 0xF3, (byte) 0x89, (byte) 0x9A, (byte) 0xC2});
        bytes.write(message);
        bytes.write(MessageDigest.getInstance("MD5").digest(message));
        return SdkBytes.fromByteArray(bytes.toByteArray());
    }

    private static void takeApart(List<KinesisClientRecord> inner, List<KinesisClientRecord> outer) {
        Trial.check(inner.size() == outer.size() * INSIDE, inner.size());
        List<String> wrong = new ArrayList<>();
        IntStream.range(0, inner.size()).forEach(n -> {
            KinesisClientRecord record = inner.get(n);
            int within = n % INSIDE;
            String data = StandardCharsets.UTF_8.decode(record.data()).toString();
            boolean same = record.aggregated() && data.equals(text(n / INSIDE, within)) && record.subSequenceNumber() == within
                    && record.partitionKey().equals(within % 2 == 0 ? "even" : "clé")
                    && record.sequenceNumber().equals(outer.get(n / INSIDE).sequenceNumber())
                    && (within % 4 != 0 || record.explicitHashKey().equals("12345"));
            if (!same) {
                wrong.add(record.toString());
            }
        });
        Trial.check(wrong.isEmpty(), wrong);
    }
}
