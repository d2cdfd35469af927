import com.google.common.util.concurrent.ListenableFuture;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.kinesis.producer.KinesisProducer;
import software.amazon.kinesis.producer.KinesisProducerConfiguration;
import software.amazon.kinesis.producer.UserRecordResult;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** The producer library puts through its native daemon, which speaks TLS only; the client library takes the records apart. */
public final class Producing {
    private static final String STREAM = "compat-producing";
    private static final int RECORDS = 5_000;
    private static final BigInteger HASH_END = BigInteger.ONE.shiftLeft(128).subtract(BigInteger.ONE);

    public static void main(String[] arguments) throws Exception {
        String host = Trial.ENDPOINT.getHost();
        int port = Trial.ENDPOINT.getPort();
        try (KinesisClient client = KinesisClient.builder().endpointOverride(Trial.ENDPOINT).region(Region.US_EAST_1)
                .credentialsProvider(Trial.CREDENTIALS).build()) {
            client.createStream(r -> r.streamName(STREAM).shardCount(2));
            KinesisProducerConfiguration configuration = new KinesisProducerConfiguration()
                    .setKinesisEndpoint(host).setKinesisPort(port)
                    .setCloudwatchEndpoint(host).setCloudwatchPort(port)
                    .setCaCertFile(System.getenv("PENSTOCK_AUTHORITY"))
                    .setRegion("us-east-1").setCredentialsProvider(Trial.CREDENTIALS);
            // Where the daemon is unpacked.
            configuration.setTempDirectory(arguments[0]);
            KinesisProducer producer = new KinesisProducer(configuration);
            Map<String, String> put = new TreeMap<>();
            try {
                putAll(producer, put);
            } finally {
                producer.destroy();
            }
            Trial.passed(RECORDS + " records put by the native daemon, each acknowledged");
            readAll(client, put);
            client.deleteStream(r -> r.streamName(STREAM));
        }
        System.exit(0);
    }

    private static String key(int n) {
        return "clé-" + n % 100;
    }

    /** What was put, and in which shard it lies. */
    private static void putAll(KinesisProducer producer, Map<String, String> put) throws Exception {
        List<ListenableFuture<UserRecordResult>> asked = new ArrayList<>();
        for (int n = 0; n < RECORDS; n++) {
            ByteBuffer data = ByteBuffer.wrap((key(n) + " record " + n).getBytes(StandardCharsets.UTF_8));
            asked.add(producer.addUserRecord(STREAM, key(n), data));
        }
        producer.flush();
        for (int n = 0; n < RECORDS; n++) {
            UserRecordResult result = asked.get(n).get(60, TimeUnit.SECONDS);
            Trial.check(result.isSuccessful(), result.getAttempts());
            put.put(key(n) + " record " + n, result.getShardId() + " " + result.getSequenceNumber());
        }
    }

    private static void readAll(KinesisClient client, Map<String, String> put) {
        Map<String, String> read = new TreeMap<>();
        int outer = 0;
        for (String shard : List.of("shardId-000000000000", "shardId-000000000001")) {
            String iterator = client.getShardIterator(r -> r.streamName(STREAM).shardId(shard)
                    .shardIteratorType(ShardIteratorType.TRIM_HORIZON)).shardIterator();
            while (iterator != null) {
                String from = iterator;
                var answer = client.getRecords(r -> r.shardIterator(from));
                List<KinesisClientRecord> records = answer.records().stream().map(KinesisClientRecord::fromRecord).toList();
                outer += records.size();
                for (KinesisClientRecord inner : new AggregatorUtil().deaggregate(records, BigInteger.ZERO, HASH_END)) {
                    String data = StandardCharsets.UTF_8.decode(inner.data()).toString();
                    Trial.check(data.startsWith(inner.partitionKey() + " "), inner);
                    Trial.check(read.put(data, shard + " " + inner.sequenceNumber()) == null, data + " came twice");
                }
                iterator = answer.millisBehindLatest() == 0 ? null : answer.nextShardIterator();
            }
        }
        Trial.check(read.equals(put), read.size() + " records came back, or elsewhere than told, of " + put.size());
        // Those that come before the daemon knows the shards go alone.
        Trial.check(outer < RECORDS, "none is aggregated");
        Trial.passed("the client library takes every one out of aggregated records, where the daemon said that it lies");
    }
}
