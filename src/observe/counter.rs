//! Counters: one enum, one array a worker, written by that worker alone (and one by its companion), read by whoever answers `/metrics`.

use super::latency::Latencies;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($name:ident $text:literal $help:literal,)*) => {
        /// Something that is counted. Values only rise, but for the gauges, whose names end in `_now`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($name,)* }
        /// (counter, name in `/metrics` without its `penstock_` prefix, help line)
        pub const COUNTERS: &[(Counter, &str, &str)] = &[$((Counter::$name, $text, $help),)*];
    };
}

counters! {
    RecordsAcked "records_acked_total" "Records acknowledged, each durable.",
    BytesAcked "bytes_acked_total" "Data and keys of acknowledged records.",
    RecordsRefused "records_refused_total" "Records refused by an entry of their own in PutRecords.",
    RecordsRead "records_read_total" "Records returned by GetRecords.",
    BytesRead "bytes_read_total" "Data and keys returned by GetRecords.",
    Requests "requests_total" "HTTP requests answered.",
    RequestErrors "request_errors_total" "Requests answered with an error.",
    ConnectionsNow "connections_now" "Open connections.",
    ConnectionsAccepted "connections_accepted_total" "Connections accepted.",
    StreamsNow "http2_streams_now" "Open streams of HTTP/2, each a request or a subscription.",
    StreamsAccepted "http2_streams_accepted_total" "Streams of HTTP/2 accepted.",
    ConnectionsRefused "connections_refused_total" "Connections closed because every slot was in use.",
    ConnectionsTimedOut "connections_timed_out_total" "Connections closed in the middle of a request that stalled.",
    NativeNow "native_connections_now" "Open connections of the native protocol, which count among all.",
    NativeAccepted "native_connections_accepted_total" "Connections of the native protocol accepted.",
    NativeBatches "native_batches_total" "Batches that came over it.",
    NativeInPlace "native_batches_in_place_total" "Those of them that were written from where they were received.",
    NativeRepeated "native_batches_repeated_total" "Those of them that were stored already, and are answered as before.",
    NativeHandoversFailed "native_handovers_failed_total" "Shards that were to move, and stayed: the log there was full.",
    NativeBatchesRefused "native_batches_refused_total" "Those of them that were refused, or lost with their log.",
    NativeReadersNow "native_readers_now" "Shards that native clients read.",
    NativeGathered "native_gathered_total" "Answers made for native readers: those that want the same share one.",
    NativeBatchesRead "native_batches_read_total" "Batches sent to native readers.",
    NativeRecordsRead "native_records_read_total" "Records in them.",
    NativeBytesRead "native_bytes_read_total" "Bytes of them, headers and padding included.",
    NativeGoodbyes "native_goodbyes_total" "Connections of the native protocol that the server ended, for a fault of the client, a limit, or its own stop.",
    RefusedUnsigned "refused_unsigned_total" "Requests refused because they had no signature.",
    RefusedIncomplete "refused_incomplete_total" "Requests refused because parts of their signature were missing or malformed.",
    RefusedUnknownKey "refused_unknown_key_total" "Requests refused for their access key, which is not known or not active, or for another session token.",
    RefusedExpiredToken "refused_expired_token_total" "Requests refused because their session token had expired.",
    RefusedClock "refused_clock_total" "Requests refused because they were signed more than five minutes ago or ahead.",
    RefusedScope "refused_scope_total" "Requests refused because they were signed for another region or service.",
    RefusedSignature "refused_signature_total" "Requests refused because their signature was wrong.",
    RefusedDenied "refused_denied_total" "Requests refused by the policies of their user, or of the resource.",
    RefusedObserver "refused_observer_total" "Requests for metrics or health with a wrong bearer token.",
    Commits "commits_total" "Commits made durable, vouch commits not counted.",
    CommitBytes "commit_bytes_total" "Bytes of those commits, padding included.",
    Vouches "vouches_total" "Header-only commits written by an idle log.",
    UnpreparedWrites "unprepared_writes_total" "Commits written into space that was not prepared: slower, as durable.",
    SegmentsRecycled "segments_recycled_total" "Segments given back for new use.",
    SegmentsEmptied "segments_emptied_total" "Segments whose remaining records were moved to newer ones.",
    MovedBytes "moved_bytes_total" "Bytes of commits of moved records, padding included.",
    SegmentsTrimmed "segments_trimmed_total" "Segments recycled before their records had expired, because the log was full.",
    LogFull "log_full_total" "Frames refused because the log was full.",
    RoomMissed "log_room_missed_total" "Times that the file system had no room for another segment of a log.",
    RoomReturned "log_room_returned_total" "Times that it had room again.",
    CatalogRoomMissed "catalog_room_missed_total" "Times that the file system had no room for a spare file of the catalog.",
    CatalogRoomReturned "catalog_room_returned_total" "Times that it had room again.",
    LogBytesUsedNow "log_bytes_used_now" "Bytes of live segments.",
    LogBytesNow "log_bytes_now" "Bytes that the log may use.",
    MirrorDegradedNow "mirror_degraded_now" "Logs, and directories beside their logs, whose halves are not both whole.",
    LogIndexBytesNow "log_index_bytes_now" "Bytes of memory that say where the records of sealed segments are.",
    LogsHangingNow "logs_hanging_now" "Logs whose drive has not answered for five seconds.",
    LogsFailedNow "logs_failed_now" "Logs that take nothing any more until a restart.",
    SecondsLeftNow "log_seconds_left_now" "Seconds until the fullest log is full at its present rate; 0 below 80 % or when nothing is written.",
    ColdReads "cold_reads_total" "Reads of segments for GetRecords.",
    ColdReadBytes "cold_read_bytes_total" "Bytes read for them.",
    ColdReadsAhead "cold_reads_ahead_total" "Those of the reads that had begun before a call needed them.",
    ColdReadBytesUnused "cold_read_bytes_unused_total" "Bytes read ahead for GetRecords that no call has used, beside those read for them.",
    ReadersResumed "readers_resumed_total" "GetRecords calls that went on with what the call before had left.",
    SubscriptionsNow "subscriptions_now" "Subscriptions to shards that are open.",
    EventsEncoded "events_encoded_total" "Events made for subscriptions: those that want the same share one.",
    SubscriptionEvents "subscription_events_total" "Events sent to subscriptions, those without records among them.",
    SubscriptionRecords "subscription_records_total" "Records in them.",
    SubscriptionBytes "subscription_bytes_total" "Bytes of their frames.",
    SubscriptionsExpired "subscriptions_expired_total" "Subscriptions that ended after five minutes, or with the server.",
    SubscriptionsAtEnd "subscriptions_at_end_total" "Subscriptions that ended with their shard.",
    SubscriptionsOusted "subscriptions_ousted_total" "Subscriptions that another of the same consumer took over.",
    SubscriptionsGone "subscriptions_gone_total" "Subscriptions whose consumer, shard or stream was deleted.",
    SubscriptionsFailed "subscriptions_failed_total" "Subscriptions that ended because a segment could not be read.",
    SubscriptionsLost "subscriptions_lost_total" "Subscriptions whose connection ended, or did not take what was sent.",
    SubscriptionsShed "subscriptions_shed_total" "Those that did not while their events filled the memory for events.",
    Turns "turns_total" "Turns of the worker.",
    SlowTurns "slow_turns_total" "Turns of more than 2 ms.",
    ShardsMoved "shards_moved_total" "Shards moved to another log for `penstock rebalance`.",
    ScrubbedBytes "scrubbed_bytes_total" "Stored bytes that were read and verified.",
    ScrubFindings "scrub_findings_total" "Places of segments that scrubbing has found damaged.",
    ScrubAgeSecondsNow "scrub_age_seconds_now" "Seconds since the stored byte that waits longest was written or verified, also by an earlier run.",
    CompanionStalls "companion_stalls_total" "Times that a companion was parked with work to do, and had to be woken.",
    ClockSteppedSecondsNow "clock_stepped_seconds_now" "Seconds, either way, by which the wall clock has stepped: not 0 means that no space is reclaimed.",
    FootersPassedOver "footers_passed_over_total" "Times that a reader did without runs of a footer, which were damaged or could not be read; the records were looked for in the segment.",
    Damaged "damaged_total" "Places of the log found damaged.",
}

/// What one worker counts, and its latencies.
#[derive(Clone, Debug)]
pub struct Counters {
    cells: Arc<[AtomicU64]>,
    pub latencies: Latencies,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { cells: COUNTERS.iter().map(|_| AtomicU64::new(0)).collect(), latencies: Latencies::default() }
    }
}

impl Counters {
    /// Adds `n`. A counter has one writer, the worker, or its companion for `CompanionStalls`: a load and a store are enough.
    pub fn add(&self, counter: Counter, n: u64) {
        let cell = &self.cells[counter as usize];
        cell.store(cell.load(Relaxed) + n, Relaxed);
    }
    pub fn set(&self, counter: Counter, n: u64) {
        self.cells[counter as usize].store(n, Relaxed);
    }
    pub fn get(&self, counter: Counter) -> u64 {
        self.cells[counter as usize].load(Relaxed)
    }
}
