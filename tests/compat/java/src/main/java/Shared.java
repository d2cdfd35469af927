import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BooleanSupplier;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisClient;

/**
 * Two processes of the client library, one that polls and one that subscribes, are started at once and share a stream: a shard is split, the
 * process that has read more is killed, its leases move. Every record that was put must be delivered, the first time in the order of its key.
 */
public final class Shared {
    private static final int KEYS = 20;
    private static final int WAIT_SECONDS_MAX = 120;

    private final String stream;
    private final KinesisClient client;
    private final AtomicBoolean putting = new AtomicBoolean(true);
    private final AtomicInteger rounds = new AtomicInteger();
    private final AtomicReference<Throwable> broken = new AtomicReference<>();
    private final Object lock = new Object();
    /** How many of each key have come, which is the number of the next: records of a key are numbered from 0 on. */
    private final Map<String, Integer> next = new TreeMap<>();
    private final List<String> disorder = new ArrayList<>();
    private final List<Worker> workers = new ArrayList<>();

    /** A worker's process, and how many records it has told of. It is named by how it reads. */
    private static final class Worker {
        private final String name;
        private final AtomicInteger delivered = new AtomicInteger();
        private volatile Process process;
        private volatile boolean killed;
        private volatile boolean again;

        private Worker(String name) {
            this.name = name;
        }
    }

    private Shared(KinesisClient client, String stream) {
        this.client = client;
        this.stream = stream;
    }

    public static void main(String[] arguments) throws Exception {
        try (KinesisClient client = KinesisClient.builder().endpointOverride(Trial.ENDPOINT).region(Region.US_EAST_1)
                .credentialsProvider(Trial.CREDENTIALS).build()) {
            new Shared(client, arguments[0]).run();
        }
    }

    private void run() throws Exception {
        client.createStream(r -> r.streamName(stream).shardCount(2));
        client.waiter().waitUntilStreamExists(r -> r.streamName(stream));
        Thread putter = new Thread(this::put, "putter");
        putter.start();
        try {
            workers.addAll(List.of(new Worker("polling"), new Worker("fan")));
            workers.forEach(this::start);
            until("a worker delivers", () -> workers.stream().anyMatch(one -> one.delivered.get() >= KEYS));
            Trial.passed("two workers started at once, one polling and one subscribing, leases made, records delivered");

            client.splitShard(r -> r.streamName(stream).shardToSplit("shardId-000000000000").newStartingHashKey("1" + "0".repeat(38)));
            boolean firstHasMore = workers.get(0).delivered.get() >= workers.get(1).delivered.get();
            Worker victim = workers.get(firstHasMore ? 0 : 1);
            Worker survivor = workers.get(firstHasMore ? 1 : 0);
            int before = survivor.delivered.get();
            victim.killed = true;
            victim.process.destroyForcibly().waitFor();
            int putWhenKilled = rounds.get();
            until("the other worker delivers", () -> survivor.delivered.get() > before && everyKeyHas(putWhenKilled + 1));
            Trial.passed("a shard split, a worker killed, its leases moved");

            putting.set(false);
            putter.join(TimeUnit.SECONDS.toMillis(WAIT_SECONDS_MAX));
            Trial.check(broken.get() == null, broken.get());
            until("every record comes", () -> everyKeyHas(rounds.get()));
            Trial.check(disorder.isEmpty(), "out of order: " + disorder);
            String again = workers.stream().anyMatch(one -> one.again) ? " (a worker that gave up while it started was started again)" : "";
            Trial.passed(rounds.get() * KEYS + " records, none missed, each key in order" + again);
        } finally {
            putting.set(false);
            workers.stream().filter(one -> one.process != null).forEach(one -> one.process.destroyForcibly());
        }
        System.exit(0);
    }

    /** One after another, so that the order of a key is the order of its numbers. */
    private void put() {
        try {
            while (putting.get()) {
                int number = rounds.get();
                for (int key = 0; key < KEYS; key++) {
                    String name = "key" + key;
                    client.putRecord(r -> r.streamName(stream).partitionKey(name).data(SdkBytes.fromUtf8String(name + " " + number)));
                }
                rounds.incrementAndGet();
                Thread.sleep(100);
            }
        } catch (InterruptedException | RuntimeException error) {
            broken.set(error);
        }
    }

    private void start(Worker worker) {
        List<String> command = List.of(System.getProperty("java.home") + "/bin/java", "-XX:TieredStopAtLevel=1", "-Xmx256m",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=" + System.getProperty("org.slf4j.simpleLogger.defaultLogLevel", "error"),
                "-cp", System.getProperty("java.class.path"), "Consuming", stream, worker.name);
        ProcessBuilder builder = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT);
        // Where there are users, workers have one of their own: what the library needs, and no more.
        for (String key : List.of("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")) {
            if (System.getenv("WORKER_" + key) != null) {
                builder.environment().put("AWS_" + key, System.getenv("WORKER_" + key));
            }
        }
        try {
            worker.process = builder.start();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        Thread reader = new Thread(() -> listen(worker, worker.process), worker.name);
        reader.setDaemon(true);
        reader.start();
    }

    /**
     * The library's own race: of two workers that write its state into a new table, the one that comes second does not try again, and gives up. As
     * any supervisor would, this starts it anew, once, and only if it has ended before it was given a record.
     */
    private void startAgain(Worker worker) {
        Trial.check(!worker.again && worker.delivered.get() == 0, "the " + worker.name + " worker has ended");
        System.out.println("the " + worker.name + " worker ended while it started, and is started again");
        worker.again = true;
        start(worker);
    }

    private void listen(Worker worker, Process process) {
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (line.startsWith("record ")) {
                    String[] words = line.split(" ");
                    deliver(words[1], Integer.parseInt(words[2]));
                    worker.delivered.incrementAndGet();
                } else {
                    System.out.println(worker.name + " said: " + line);
                }
            }
        } catch (IOException error) {
            // A killed worker's pipe breaks: what it told before has been read.
        }
    }

    /** A record may come again, as after a kill; the first time it must be the next of its key. */
    private void deliver(String key, int number) {
        synchronized (lock) {
            int expected = next.getOrDefault(key, 0);
            if (number > expected) {
                disorder.add(key + ": " + number + " came before " + expected);
            }
            next.put(key, Math.max(expected, number + 1));
        }
    }

    private boolean everyKeyHas(int count) {
        synchronized (lock) {
            return next.size() == KEYS && next.values().stream().allMatch(has -> has >= count);
        }
    }

    private void until(String what, BooleanSupplier holds) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS_MAX);
        while (!holds.getAsBoolean()) {
            Trial.check(broken.get() == null, broken.get());
            workers.stream().filter(one -> !one.killed && !one.process.isAlive()).forEach(this::startAgain);
            synchronized (lock) {
                Trial.check(System.nanoTime() < deadline, what + ": not within " + WAIT_SECONDS_MAX + " s; came " + next + " of "
                        + rounds.get() + "; out of order: " + disorder);
            }
            Thread.sleep(100);
        }
    }
}
