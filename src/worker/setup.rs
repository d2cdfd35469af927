//! What a worker is made with.

use super::access::Gate;
use super::ack::Acks;
use super::connection::Connections;
use super::fanout::Fanout;
use super::get::Gets;
use super::handover::Handovers;
use super::mailbox::Mailboxes;
use super::native::Natives;
use super::pace::slow_room;
use super::pinning::Pinning;
use super::put::Puts;
use super::rebalance::Rebalances;
use super::registrar::Registrar;
use super::scrub::Scrub;
use super::snapshot::Snapshots;
use super::space::RetentionClock;
use super::subscription::Subscriptions;
use super::tables::Desk;
use super::{Boot, Worker};
use crate::catalog::identity::Identity;
use crate::catalog::state::State;
use crate::http::response::Date;
use crate::io::buffers::{Buffers, Loans};
use crate::io::clock::{Mono, Now, Wall};
use crate::limits::Limits;
use crate::log::Canary;
use crate::log::directories::Given;
use crate::mirror::{self, Mirror};
use crate::observe::counter::Counters;
use crate::shard::Shards;
use std::collections::{BTreeMap, VecDeque};

/// What to do when no segment is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Refuse puts per record; reads go on.
    Reject,
    /// Recycle the oldest segment early.
    Trim,
}

/// What the operator chose, and what was measured at start. The same for every worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that all logs together may use; `None`: as the home says, half of the free space of each directory when it is new.
    pub disk: Option<u64>,
    /// The data directories of this start, the home first; at least that.
    pub given: Vec<Given>,
    /// The NUMA node of each worker's core, where the kernel tells it.
    pub nodes: Vec<Option<u32>>,
    pub when_full: WhenFull,
    /// `None`: as the directory says, us-east-1 when it is new.
    pub region: Option<String>,
    /// `None`: as the directory says, 000000000000 when it is new.
    pub account: Option<String>,
    /// Seconds that an hour of retention lasts, for tests; fixed when the directory is made. `None`: as the directory says.
    pub retention_hour: Option<u32>,
    /// Segment size for a new directory; `None`: disk / (64 × logs) within 64 MiB .. 1 GiB.
    pub segment: Option<u64>,
    /// Random bytes: directory id and iterator key of a new directory.
    pub random: [u8; 32],
    /// Who may ask for snapshots and moves of shards knows it: from a file that only those can read who can read the data.
    pub admin_key: [u8; 16],
    /// Records of native batches must be of the shard that the batch names.
    pub verify_keys: bool,
    /// The kernel calls the wall clock synchronised.
    pub clock_synchronised: bool,
    /// The operator wants the wall clock to be believed at start whatever the kernel and the last run say.
    pub accept_clock: bool,
    /// Nanoseconds within which every stored byte is verified; `None`: never.
    pub scrub: Option<u64>,
    /// Every data directory has two halves.
    pub mirror: Option<mirror::Settings>,
    /// Rules broken on purpose, by the simulator only.
    pub canary: Canary,
    /// Another of them: the epoch is not raised at start.
    pub no_epoch_bump: bool,
}

/// Where a worker stands among its kind.
pub struct Setup {
    pub worker: u16,
    pub workers: u16,
    pub limits: Limits,
    pub options: Options,
    /// Its memory, laid out by [`Limits::layouts`].
    pub buffers: Buffers,
    /// Memory of every worker, by number, for spans that they lend.
    pub loans: Vec<Loans>,
    /// Counters of every worker, by number.
    pub counters: Vec<Counters>,
    /// Its ends of the rings between workers: [`super::mailbox::connect`].
    pub mailboxes: Mailboxes,
}

impl Worker {
    /// A worker that has not begun. Worker 0 boots the directory in its first turns.
    pub fn new(setup: Setup) -> Worker {
        let Setup { worker, workers, limits, options, mut buffers, loans, counters, mailboxes } = setup;
        let mirror = options.mirror.clone().map(|settings| Box::new(Mirror::new(settings, &mut buffers)));
        let seed = u128::from_le_bytes(options.random[16..].try_into().expect("16 of 32 bytes"));
        Worker {
            id: worker,
            workers,
            limits,
            identity: Identity { region: String::new(), account: String::new() },
            iterator_key: [0; 16],
            retention_hour: 3600,
            now: Now::default(),
            loans,
            counters: counters[worker as usize].clone(),
            all_counters: counters,
            mail: mailboxes,
            boot: Some(Boot::default()),
            serving: false,
            stopping: false,
            stop_begun: false,
            stop_told: false,
            step_told: false,
            stopped_workers: vec![false; workers as usize],
            logs: Vec::new(),
            log_count: 0,
            places: Vec::new(),
            paths: Vec::new(),
            space: Vec::new(),
            hangs: Vec::new(),
            tell: Vec::new(),
            shards: Shards::default(),
            found: BTreeMap::new(),
            connections: Connections::new(&limits),
            slow: slow_room(&buffers),
            buffers,
            natives: Natives::new(&limits),
            handovers: Handovers::default(),
            gate: Gate::default(),
            puts: Puts::new(limits.puts, limits.sockets() as usize),
            pending: VecDeque::with_capacity(limits.puts * 8 + limits.natives as usize),
            acks: Acks::new(0, 0),
            latest: VecDeque::new(),
            latest_early: VecDeque::new(),
            latest_moved: VecDeque::new(),
            gets: Gets::new(limits.gets),
            subscriptions: Subscriptions::new(&limits),
            fanout: Fanout::new(workers),
            registrar: Registrar::default(),
            control: None,
            snapshots: Snapshots::default(),
            pinning: Pinning::default(),
            rebalances: Rebalances::default(),
            desk: Desk::default(),
            client_metrics: Default::default(),
            view: State::default(),
            applied_untold: None,
            retention: RetentionClock::default(),
            returns: VecDeque::with_capacity(limits.sockets() as usize),
            scrub: Scrub::default(),
            mirror,
            untold_halves: VecDeque::new(),
            repaired_moves: VecDeque::new(),
            notices: VecDeque::new(),
            date: Date::new(Wall(0)),
            request_id: seed ^ worker as u128,
            nonce: seed as u64 ^ (worker as u64) << 48,
            tick: Mono(0),
            options,
        }
    }
}
