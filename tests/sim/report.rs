//! What the tests say that they have tried.

/// What a run has been through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub acked: u64,
    pub reads: u64,
    pub answered: u64,
    pub lost: u64,
    pub cuts: u32,
    pub stops: u32,
    pub recycled: u64,
    /// Segments whose remaining records were moved.
    pub emptied: u64,
    /// Starts that accepted a clock which had gone back.
    pub accepted: u32,
    /// Flipped bytes that scrubs have found.
    pub scrubbed: u64,
    /// Runs in which scrubs went on where an earlier life had come to.
    pub scrubs_gone_on: u64,
    /// Starts that made more logs, that were given one more drive, that were refused for one that was missing.
    pub grown: u32,
    pub added: u32,
    pub refused: u32,
    /// Puts that were refused as their drive had failed, while another worked.
    pub spared: u32,
    /// Snapshots taken, those of them that a power cut found whole, and nodes restored from them.
    pub snapshots: u64,
    /// Of several drives.
    pub snapshots_several: u32,
    pub snapshots_cut: u64,
    pub restored: u64,
    /// Shards moved between logs for a request that was answered, and moves that a later life has ended.
    pub moved: u64,
    /// Records that came by subscriptions.
    pub subscribed: u64,
    /// Records that were acked over the native protocol.
    pub natively: u64,
    /// Commits that were written from where a bulk connection's bytes were received.
    pub in_place: u64,
    /// Records that were read over it.
    pub read_natively: u64,
    /// Subscriptions that ended by their time, or were ended for their memory.
    pub expired: u64,
    pub shed: u64,
    pub resumed: u64,
    /// Moves, splits and merges that ended where they began, because a log had failed meanwhile.
    pub stayed: u64,
    /// Times that the file system had room again.
    pub room_returned: u64,
    /// Snapshots of the catalog where there was no room, and how often room for its spares returned.
    pub rotated_full: u64,
    pub spares_returned: u64,
    /// Halves of mirrors that were left behind, units that were rebuilt, and audits of one half alone.
    pub degraded: u64,
    pub rebuilt: u64,
    pub alone: u64,
    /// Footers that readers did without.
    pub passed_over: u64,
    /// GetRecords calls that went on with the reader of the call before.
    pub readers_resumed: u64,
    /// Reads of theirs that had begun before they were needed.
    pub read_ahead: u64,
    /// Leases taken, and refused to those who were too late.
    pub leases_taken: u64,
    pub leases_refused: u64,
    pub virtual_seconds: f64,
}

impl Report {
    pub fn add(&mut self, other: &Report) {
        self.acked += other.acked;
        self.reads += other.reads;
        self.answered += other.answered;
        self.lost += other.lost;
        self.cuts += other.cuts;
        self.stops += other.stops;
        self.recycled += other.recycled;
        self.emptied += other.emptied;
        self.grown += other.grown;
        self.accepted += other.accepted;
        self.scrubbed += other.scrubbed;
        self.scrubs_gone_on += other.scrubs_gone_on;
        self.added += other.added;
        self.refused += other.refused;
        self.spared += other.spared;
        self.snapshots += other.snapshots;
        self.snapshots_several += other.snapshots_several;
        self.snapshots_cut += other.snapshots_cut;
        self.restored += other.restored;
        self.moved += other.moved;
        self.subscribed += other.subscribed;
        self.natively += other.natively;
        self.in_place += other.in_place;
        self.read_natively += other.read_natively;
        self.expired += other.expired;
        self.shed += other.shed;
        self.resumed += other.resumed;
        self.stayed += other.stayed;
        self.room_returned += other.room_returned;
        self.rotated_full += other.rotated_full;
        self.spares_returned += other.spares_returned;
        self.degraded += other.degraded;
        self.rebuilt += other.rebuilt;
        self.alone += other.alone;
        self.passed_over += other.passed_over;
        self.readers_resumed += other.readers_resumed;
        self.read_ahead += other.read_ahead;
        self.leases_taken += other.leases_taken;
        self.leases_refused += other.leases_refused;
        self.virtual_seconds += other.virtual_seconds;
    }
}
