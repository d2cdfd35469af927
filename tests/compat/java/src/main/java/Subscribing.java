import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.reactivestreams.Subscriber;
import org.reactivestreams.Subscription;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.model.Consumer;
import software.amazon.awssdk.services.kinesis.model.ResourceInUseException;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardEvent;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardEventStream;
import software.amazon.awssdk.services.kinesis.model.SubscribeToShardResponseHandler;

/** SubscribeToShard as the asynchronous client does it: events over HTTP/2, while records are put, to the end of a shard. */
public final class Subscribing {
    private static final String STREAM = "compat-java-subscribing";
    private static final String FIRST = "shardId-000000000000";
    private static final int BEFORE = 200;
    private static final int DURING = 300;
    private static final int LARGE = 40;
    private static final ConcurrentLinkedQueue<SubscribeToShardEvent> EVENTS = new ConcurrentLinkedQueue<>();

    /** A subscription that runs: what has come, and when it has ended. */
    private record Running(ConcurrentLinkedQueue<SubscribeToShardEvent> events, CompletableFuture<Void> end) {
        List<String> numbers() {
            return events.stream().flatMap(event -> event.records().stream()).map(record -> record.sequenceNumber()).toList();
        }
    }

    public static void main(String[] arguments) throws Exception {
        try (KinesisAsyncClient client = KinesisAsyncClient.builder().endpointOverride(Trial.ENDPOINT).region(Region.US_EAST_1)
                .credentialsProvider(Trial.CREDENTIALS).build()) {
            client.createStream(r -> r.streamName(STREAM).shardCount(1)).join();
            String arn = client.describeStreamSummary(r -> r.streamName(STREAM)).join().streamDescriptionSummary().streamARN();
            List<Consumer> consumers = List.of(consumer(client, arn, "one"), consumer(client, arn, "two"));
            Trial.passed("register, describe, list");

            List<String> put = Collections.synchronizedList(new ArrayList<>());
            IntStream.range(0, BEFORE).forEach(n -> put(client, put, n));
            List<Running> running = consumers.stream().map(each -> subscribe(client, each.consumerARN())).toList();
            IntStream.range(BEFORE, BEFORE + DURING).forEach(n -> put(client, put, n));
            client.splitShard(r -> r.streamName(STREAM).shardToSplit(FIRST).newStartingHashKey("1000")).join();
            for (Running one : running) {
                one.end().get(60, TimeUnit.SECONDS);
                Trial.check(one.numbers().equals(put), one.numbers().size() + " records came, not the same as " + put.size());
                SubscribeToShardEvent last = one.events().stream().reduce((a, b) -> b).orElseThrow();
                Trial.check(last.childShards().size() == 2 && last.continuationSequenceNumber() == null, last);
            }
            Trial.passed("two consumers, each with every record in order, to the end of the shard");
            slowly(client, arn);
            goOn(client, consumers.get(0).consumerARN(), put);
            refusals(client, consumers.get(0).consumerARN(), arn);
            client.deregisterStreamConsumer(r -> r.consumerARN(consumers.get(0).consumerARN())).join();
            client.deleteStream(r -> r.streamName(STREAM).enforceConsumerDeletion(true)).join();
            Trial.passed("deregister, delete");
        }
    }

    private static Consumer consumer(KinesisAsyncClient client, String arn, String name) throws InterruptedException {
        Consumer made = client.registerStreamConsumer(r -> r.streamARN(arn).consumerName(name)).join().consumer();
        String status = "";
        for (int attempt = 0; attempt < 60 && !status.equals("ACTIVE"); attempt++) {
            status = client.describeStreamConsumer(r -> r.streamARN(arn).consumerName(name)).join().consumerDescription()
                    .consumerStatusAsString();
            Thread.sleep(status.equals("ACTIVE") ? 0 : 500);
        }
        Trial.check(status.equals("ACTIVE"), status);
        Trial.check(client.listStreamConsumers(r -> r.streamARN(arn)).join().consumers().contains(
                made.toBuilder().consumerStatus(status).build()), made);
        return made;
    }

    private static void put(KinesisAsyncClient client, List<String> put, int n) {
        SdkBytes data = SdkBytes.fromByteArray(new byte[n * 20]);
        put.add(client.putRecord(r -> r.streamName(STREAM).partitionKey("k" + n).data(data)).join().sequenceNumber());
    }

    private static Running subscribe(KinesisAsyncClient client, String arn) {
        return subscribe(client, arn, FIRST, null);
    }

    private static Running subscribe(KinesisAsyncClient client, String arn, String shard, String after) {
        ConcurrentLinkedQueue<SubscribeToShardEvent> events = new ConcurrentLinkedQueue<>();
        CompletableFuture<Void> answered = new CompletableFuture<>();
        var handler = SubscribeToShardResponseHandler.builder().onResponse(answer -> answered.complete(null))
                .onError(answered::completeExceptionally)
                .subscriber(SubscribeToShardResponseHandler.Visitor.builder().onSubscribeToShardEvent(events::add).build()).build();
        CompletableFuture<Void> end = client.subscribeToShard(r -> r.consumerARN(arn).shardId(shard).startingPosition(p -> {
            p.type(after == null ? ShardIteratorType.TRIM_HORIZON : ShardIteratorType.AFTER_SEQUENCE_NUMBER);
            p.sequenceNumber(after);
        }), handler);
        answered.join();
        return new Running(events, end);
    }

    /** Takes one event, then nothing while more is due than any window has room for; then the rest. */
    private static final class Slow implements Subscriber<SubscribeToShardEventStream> {
        private final CompletableFuture<Subscription> first = new CompletableFuture<>();
        private Subscription subscription;

        @Override
        public void onSubscribe(Subscription begun) {
            subscription = begun;
            begun.request(1);
        }

        @Override
        public void onNext(SubscribeToShardEventStream event) {
            EVENTS.add((SubscribeToShardEvent) event);
            first.complete(subscription);
        }

        @Override
        public void onError(Throwable error) {
            first.completeExceptionally(error);
        }

        @Override
        public void onComplete() {}
    }

    /** A client of its own, whose connection has a window of its own. */
    private static void slowly(KinesisAsyncClient client, String stream) throws Exception {
        Consumer consumer = consumer(client, stream, "slow");
        Slow slow = new Slow();
        try (KinesisAsyncClient own = KinesisAsyncClient.builder().endpointOverride(Trial.ENDPOINT).region(Region.US_EAST_1)
                .credentialsProvider(Trial.CREDENTIALS).build()) {
            String upper = "shardId-000000000002";
            var handler = SubscribeToShardResponseHandler.builder().subscriber(() -> slow).build();
            CompletableFuture<Void> end = own.subscribeToShard(r -> r.consumerARN(consumer.consumerARN()).shardId(upper)
                    .startingPosition(p -> p.type(ShardIteratorType.TRIM_HORIZON)), handler);
            SdkBytes large = SdkBytes.fromByteArray(new byte[1_000_000]);
            List<String> numbers = new ArrayList<>();
            for (int n = 0; n < LARGE; n++) {
                numbers.add(client.putRecord(r -> r.streamName(STREAM).partitionKey("large").explicitHashKey("1" + "0".repeat(30)).data(large))
                        .join().sequenceNumber());
            }
            slow.first.get(60, TimeUnit.SECONDS).request(Long.MAX_VALUE);
            client.splitShard(r -> r.streamName(STREAM).shardToSplit(upper).newStartingHashKey("1" + "0".repeat(35))).join();
            end.get(60, TimeUnit.SECONDS);
            List<String> came = EVENTS.stream().flatMap(event -> event.records().stream()).map(record -> record.sequenceNumber()).toList();
            Trial.check(came.equals(numbers), came.size() + " of " + LARGE);
        }
        Trial.passed(LARGE + " MB for a subscriber that did not read, complete when it did");
    }

    /** The second half once more, from where an event of the first said that one can go on. */
    private static void goOn(KinesisAsyncClient client, String arn, List<String> put) throws Exception {
        String after = put.get(put.size() / 2);
        // The service takes a second call for a shard five seconds after the first.
        Thread.sleep(5_500);
        Running again = subscribe(client, arn, FIRST, after);
        again.end().get(60, TimeUnit.SECONDS);
        Trial.check(again.numbers().equals(put.subList(put.size() / 2 + 1, put.size())), again.numbers().size());
        Trial.passed("a subscription that goes on after a record");
    }

    private static void refusals(KinesisAsyncClient client, String consumer, String stream) {
        refused(ResourceNotFoundException.class, () -> subscribe(client, consumer, "shardId-000000000099", null));
        refused(ResourceNotFoundException.class, () -> subscribe(client, consumer.replace("/one:", "/none:"), FIRST, null));
        refused(ResourceInUseException.class, () -> client.registerStreamConsumer(r -> r.streamARN(stream).consumerName("one")).join());
        Trial.passed("errors by type");
    }

    private static void refused(Class<?> type, Runnable asked) {
        try {
            asked.run();
        } catch (CompletionException error) {
            Trial.check(type.isInstance(error.getCause()), error);
            return;
        }
        Trial.check(false, "this must be refused with " + type);
    }
}
