import java.nio.charset.StandardCharsets;
import java.util.UUID;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/** One worker of the client library, told of the server by the environment alone; says each record that it is given, then checkpoints. */
public final class Consuming {
    private static final InitialPositionInStreamExtended OLDEST =
            InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);

    private static final class Processor implements ShardRecordProcessor {
        @Override
        public void initialize(InitializationInput input) {}

        @Override
        public void processRecords(ProcessRecordsInput input) {
            input.records().forEach(record -> System.out.println("record " + StandardCharsets.UTF_8.decode(record.data())));
            System.out.flush();
            checkpoint(() -> input.checkpointer().checkpoint());
        }

        @Override
        public void leaseLost(LeaseLostInput input) {}

        @Override
        public void shardEnded(ShardEndedInput input) {
            checkpoint(() -> input.checkpointer().checkpoint());
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            checkpoint(() -> input.checkpointer().checkpoint());
        }
    }

    private interface Checkpoint {
        void take() throws InvalidStateException, ShutdownException;
    }

    /** A lease that has moved meanwhile is its new owner's to checkpoint. */
    private static void checkpoint(Checkpoint checkpoint) {
        try {
            checkpoint.take();
        } catch (ShutdownException moved) {
            System.err.println("the lease has moved: " + moved.getMessage());
        } catch (InvalidStateException error) {
            throw new IllegalStateException(error);
        }
    }

    public static void main(String[] arguments) {
        String stream = arguments[0];
        String mode = arguments[1];
        String worker = mode + "-" + UUID.randomUUID();
        KinesisAsyncClient kinesis = KinesisClientUtil.createKinesisAsyncClient(KinesisAsyncClient.builder().region(Region.US_EAST_1));
        DynamoDbAsyncClient leases = DynamoDbAsyncClient.builder().region(Region.US_EAST_1).build();
        CloudWatchAsyncClient metrics = CloudWatchAsyncClient.builder().region(Region.US_EAST_1).build();
        ConfigsBuilder configs = new ConfigsBuilder(new SingleStreamTracker(stream, OLDEST), stream + "-application", kinesis, leases,
                metrics, worker, Processor::new);
        RetrievalSpecificConfig retrieval = mode.equals("fan")
                ? new FanOutConfig(kinesis).streamName(stream).applicationName(stream + "-application")
                : new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(250);
        new Scheduler(configs.checkpointConfig(),
                configs.coordinatorConfig().parentShardPollIntervalMillis(500).schedulerInitializationBackoffTimeMillis(500)
                        .maxInitializationAttempts(5),
                soon(configs), configs.lifecycleConfig(), configs.metricsConfig().metricsBufferTimeMillis(1_000),
                configs.processorConfig(), configs.retrievalConfig().retrievalSpecificConfig(retrieval)).run();
        // Whoever gives up must not stay as a process: others of its threads go on.
        System.exit(1);
    }

    /** Failures are noticed within seconds, not within the minutes that an application of many workers wants. */
    private static LeaseManagementConfig soon(ConfigsBuilder configs) {
        var leases = configs.leaseManagementConfig().failoverTimeMillis(3_000).shardSyncIntervalMillis(2_000)
                .leasesRecoveryAuditorExecutionFrequencyMillis(2_000).dynamoDbLockBasedLeaderLeaseDurationInMillis(4_000)
                .dynamoDbLockBasedLeaderHeartbeatPeriodInMillis(1_000).leaseAssignmentIntervalMillis(2_000L);
        leases.workerUtilizationAwareAssignmentConfig().disableWorkerMetrics(true).workerMetricsReporterFreqInMillis(1_000);
        return leases;
    }
}
