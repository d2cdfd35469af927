//! Checks that need the node, the disk and the clients together: at each send and commit, and at the end.

use super::auditor::Auditor;
use super::call::Kind;
use super::client::{Client, Role};
use super::clock::{MILLISECOND, SECOND};
use super::disk::{MARK, MARKED};
use super::frames::Frame;
use super::net;
use super::random::Random;
use super::wire::from_base64;
use super::world::{Event, World};
use penstock::io::buffers::{ALL_POOLS, POOLS, Pool};
use penstock::io::op::{FileName, Op};
use serde_json::Value;

/// Begins a commit: the log's format, 1.
const COMMIT_MAGIC: &[u8] = b"pC";

impl World<'_> {
    /// Every commit of a life carries one epoch, which no earlier life has used: what a power cut left of that one cannot pass for its.
    pub(super) fn check_epoch(&mut self, worker: u16, op: Op) {
        let Op::WriteAt { file: FileName::Segment { .. }, from, token, .. } = op else { return };
        if penstock::mirror::is_copy(token) {
            return;
        }
        let bytes = self.node.as_ref().expect("it is running").bytes(worker, from);
        if bytes.starts_with(COMMIT_MAGIC) {
            self.report.in_place += (from.pool == Pool::Bulk) as u64;
            let epoch = u32::from_le_bytes(bytes[24..28].try_into().expect("4 bytes"));
            let own = *self.epoch.get_or_insert(epoch);
            assert_eq!(epoch, own, "one life writes two epochs");
            assert!(
                self.epoch_before.is_none_or(|before| epoch > before),
                "epoch {epoch} has been used by an earlier life"
            );
        }
    }

    /// The node serves for the last time: everything is read and compared.
    pub(super) fn begin_audit(&mut self) {
        for client in 0..self.clients.len() {
            if let Some(id) = self.clients[client].connection.take() {
                self.outgoing.remove(&id);
            }
            self.clients[client].disconnected(&mut self.shared);
        }
        self.clients
            .push(Client::new(Role::Auditor(Auditor::default()), Random::stream(self.shared.settings.seed, "auditor")));
        let client = self.clients.len() - 1;
        self.heap.at(self.clock.mono() + MILLISECOND, Event::Think { client });
    }

    pub(super) fn audited(&mut self, client: usize, id: net::Id) {
        let now = self.clock.mono();
        self.note("audited".into());
        self.shared.oracle.check_all_found(now);
        self.audited = true;
        self.clients[client].connection = None;
        self.with_net(|net, later| net.client_resets(now, id, later));
        self.heap.at(now + 3 * SECOND, Event::Settle { tries: 0 });
    }

    /// After the audit nobody asks anything: every buffer must be back, but for the blocks that the catalog and the superblock keep.
    pub(super) fn settle(&mut self, tries: u32) {
        let taken = self.node.as_ref().expect("nothing ends the last life").taken();
        let kept = |pool: usize, at_start: usize| if ALL_POOLS[pool] == Pool::Block { at_start } else { 0 };
        let more =
            |(now, start): (&Vec<usize>, &Vec<usize>)| (0..POOLS).any(|pool| now[pool] > kept(pool, start[pool]));
        if taken.iter().zip(&self.taken).any(more) || self.net.open() > 0 {
            let why = format!("taken {taken:?}, at the start {:?}; {} connections", self.taken, self.net.open());
            assert!(tries < 10, "memory does not come back to an idle node: {why}");
            return self.heap.at(self.clock.mono() + 10 * SECOND, Event::Settle { tries: tries + 1 });
        }
        let silent = self.shared.oracle.damage_shown.get() && !self.damage_told;
        assert!(!silent, "records are missing after damage that the node has not told");
        self.done = true;
    }

    /// A reply is being sent: what it acknowledges or shows must be durable already.
    pub(super) fn check_sent(&mut self, id: net::Id, bytes: &[u8]) {
        let Some(outgoing) = self.outgoing.get_mut(&id) else { return self.check_natively(id, bytes) };
        outgoing.replies.push(bytes);
        let client = outgoing.client;
        while let Some(reply) = self.outgoing.get_mut(&id).and_then(|o| o.replies.next().expect("a reply is HTTP")) {
            let outgoing = self.outgoing.get_mut(&id).expect("it was just there");
            let call = outgoing.base + outgoing.count;
            if reply.more {
                let frame = Frame::read(&reply.body);
                if frame.header(":event-type") == "SubscribeToShardEvent" {
                    self.check_shown(&frame.json());
                }
                continue;
            }
            outgoing.count += 1;
            if reply.status == 200 && self.clients[client].connection == Some(id) {
                let index = call.checked_sub(self.clients[client].first).expect("no reply comes before it is sent");
                self.check_durable(client, index as usize, &reply.body);
            }
        }
    }

    pub(super) fn check_durable(&self, client: usize, index: usize, body: &[u8]) {
        let Some(call) = self.clients[client].puts_at(index) else { return };
        let value: Value = match &call.kind {
            Kind::Put { .. } | Kind::Get { .. } => serde_json::from_slice(body).expect("a reply is JSON"),
            _ => return,
        };
        match &call.kind {
            Kind::Put { marks, single, .. } => {
                let failed = |index: usize| !single && value["Records"][index].get("ErrorCode").is_some();
                for (_, mark) in marks.iter().enumerate().filter(|(index, _)| !failed(*index)) {
                    assert!(
                        self.holds(*mark),
                        "an ack is sent before its record is durable: {mark:x} {}",
                        call.operation
                    );
                }
            }
            _ => self.check_shown(&value),
        }
    }

    /// Records of an answer or an event are durable.
    fn check_shown(&self, value: &Value) {
        let oracle = &self.shared.oracle;
        let records = value["Records"].as_array().expect("a list of records");
        for data in records.iter().filter_map(|record| from_base64(record["Data"].as_str()?)) {
            let mark =
                mark_of(&data).filter(|mark| (*mark as usize) < oracle.attempts.len()).expect("a record that was put");
            assert!(self.holds(mark), "a record is shown before it is durable: {mark:x}");
        }
    }

    /// Whether a record may be shown and acknowledged. Memory may still serve what was harmed on the disk.
    pub(super) fn holds(&self, mark: u64) -> bool {
        let oracle = &self.shared.oracle;
        let attempt = &oracle.attempts[mark as usize];
        self.is_durable(mark, &attempt.data) || oracle.damaged || oracle.may_vanish(mark, self.shared.now)
    }
}

/// The number of the try that put a record with this data.
pub fn mark_of(data: &[u8]) -> Option<u64> {
    let digits = data.get(MARK.len()..MARKED).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
}
