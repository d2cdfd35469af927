//! Who is let in: credentials on their way through a connection.
//!
//! When a head has been read, its signature is begun ([`Gate::screen`]): a request with none, or with a key that is not known, is refused before
//! its body is received. The body is hashed as it arrives ([`Worker::feed_check`]), the signature compared when it is whole
//! ([`Worker::authenticate`]), and what the user may do is asked where the resource is known ([`Worker::authorize`]). Without credentials
//! all of this is passed over.

use super::Worker;
use super::body::BODY_POOLS;
use super::connection::{Connection, Phase};
use super::notice::Notice;
use super::serve::{Reply, Route};
use crate::auth::ask::{Ask, Resource, Short, Tags};
use crate::auth::credentials::Access;
use crate::auth::policy::{Verdict, judge};
use crate::auth::presented::SignedHead;
use crate::auth::refusal::{Reason, Refused};
use crate::auth::verify::{Check, DerivedKeys, Expected};
use crate::client_metrics::dialect;
use crate::http::http1::{HEADERS_MAX, split_target};
use crate::http::response::ContentType;
use crate::io::buffers::{Pool, Span};
use crate::io::clock::Mono;
use crate::io::op::Ops;
use crate::kinesis::error::{Error, Kind};
use crate::kinesis::object;
use crate::kinesis::operation::{Cold, Operation, Refusal};
use crate::kinesis::request::{Mutation, Request};
use crate::observe::counter::Counter;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// A connection that has never had a verified request must send a whole head within this time.
pub(super) const STRANGER_HEAD_MS: u64 = 10_000;
/// How often a reason for refusals is told, at most.
const TOLD_EVERY_MS: u64 = 60_000;
/// The action that reads metrics and the details of health.
const READ_METRICS: &str = "penstock:ReadMetrics";

/// Who has sent the request that a connection is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pass {
    #[default]
    Nobody,
    /// A user of the credentials, by place.
    User(u16),
    /// An observer's bearer token came with it.
    Observer,
}

/// The door of a worker.
#[derive(Default)]
pub struct Gate {
    /// `None`: without credentials, everybody on this machine is let in.
    table: Option<Arc<Access>>,
    keys: DerivedKeys,
    /// By reason: when it was told last, and how many refusals there had been.
    told: [(Mono, u64); Reason::ALL.len()],
    /// Buffers of bodies that strangers hold, by pool.
    held: [usize; 3],
}

fn counter(reason: Reason) -> Counter {
    match reason {
        Reason::Unsigned => Counter::RefusedUnsigned,
        Reason::Incomplete => Counter::RefusedIncomplete,
        Reason::UnknownKey => Counter::RefusedUnknownKey,
        Reason::ExpiredToken => Counter::RefusedExpiredToken,
        Reason::Clock => Counter::RefusedClock,
        Reason::Scope => Counter::RefusedScope,
        Reason::Signature => Counter::RefusedSignature,
        Reason::Denied => Counter::RefusedDenied,
        Reason::Observer => Counter::RefusedObserver,
    }
}

/// Which signature a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    Nothing,
    /// One for this service, if it has one: more is shown to who may see it.
    May(&'static str),
    /// One for this service.
    Must(&'static str),
}

/// Each kind of request is named, so that none is let in because it was forgotten.
fn demand(route: &Route) -> Demand {
    match route {
        Route::Api(_) => Demand::Must("kinesis"),
        Route::Tables(_) => Demand::Must("dynamodb"),
        Route::ClientMetrics(_) => Demand::Must("monitoring"),
        Route::Health | Route::Metrics => Demand::May("kinesis"),
        // These have a key of their own.
        Route::Rebalance(_) | Route::Snapshot(_) => Demand::Nothing,
        Route::Refused(_) | Route::ForeignHost => Demand::Nothing,
    }
}

/// The answer to one who is not let in, as the service that was asked would give it.
pub(super) fn refusal(route: &Route, error: &Error) -> Refusal {
    match route {
        Route::ClientMetrics(call) => {
            let error = dialect::Error::new(dialect::Kind::Refused(error.kind.name()), error.message.as_str());
            let (status, content_type, body) = dialect::answer(call.dialect, Err(error));
            Refusal { status, content_type, body }
        }
        Route::Tables(_) => Refusal { content_type: ContentType::AmzJsonOld, ..Refusal::of(error) },
        _ => Refusal::of(error),
    }
}

/// An operation that is not there is told before who asks, as AWS does: but only he who is known has his body read.
fn known_operation(route: &Route) -> Result<(), Error> {
    match route {
        Route::Api(Operation::Cold(Cold::Unknown)) => Err(Error::new(Kind::UnknownOperation, "")),
        _ => Ok(()),
    }
}

impl Gate {
    pub fn has_credentials(&self) -> bool {
        self.table.is_some()
    }

    pub(super) fn table(&self) -> Option<&Arc<Access>> {
        self.table.as_ref()
    }

    /// Looks at a head that has been parsed before: the signature that is to be verified, if it has one, or who it is.
    fn screen(&mut self, head: &[u8], route: &Route, region: &str, now: u64) -> Result<(Option<Check>, Pass), Refused> {
        let nobody = Ok((None, Pass::Nobody));
        let Some(table) = &self.table else { return nobody };
        let (service, must) = match demand(route) {
            Demand::Nothing => return nobody,
            Demand::May(service) => (service, false),
            Demand::Must(service) => (service, true),
        };
        let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_MAX];
        let mut raw = httparse::Request::new(&mut []);
        if !matches!(raw.parse_with_uninit_headers(head, &mut headers), Ok(httparse::Status::Complete(_))) {
            return Err(Refused::unsigned());
        }
        let (_, path, query) = split_target(raw.path.unwrap_or("/"));
        let signed = SignedHead { method: raw.method.unwrap_or(""), path, query, headers: raw.headers };
        let bearer = signed.value("authorization").and_then(|value| value.strip_prefix(b"Bearer "));
        match bearer.filter(|_| !must) {
            Some(token) if table.observes(token.trim_ascii()) => return Ok((None, Pass::Observer)),
            Some(_) => return Err(Refused::new(Reason::Observer, Kind::AccessDenied, "")),
            None => {}
        }
        match Check::begin(&signed, table, &mut self.keys, &Expected { region, service, now }) {
            Ok(check) => Ok((Some(check), Pass::Nobody)),
            Err(refused) if refused.reason == Reason::Unsigned && !must => nobody,
            Err(refused) => Err(refused),
        }
    }

    /// Whether nothing is known that speaks for a connection: no request on it has been verified or, where there are no credentials, it has not
    /// sent a body whole that took a buffer.
    pub(super) fn is_stranger(&self, connection: &Connection) -> bool {
        if self.has_credentials() { !connection.verified } else { !connection.earnest }
    }

    /// Whether a stranger may have another buffer of `pool`, which has `slots`: a quarter is for all of them.
    pub(super) fn may_hold(&self, pool: Pool, slots: u16) -> bool {
        BODY_POOLS.iter().position(|of| *of == pool).is_none_or(|at| self.held[at] < (slots as usize / 4).max(1))
    }

    /// A connection has got this buffer for its body.
    pub(super) fn hold(&mut self, connection: &mut Connection, body: Span) {
        if self.is_stranger(connection) {
            connection.counted = Some(body.pool);
            self.held[place(body.pool)] += 1;
        }
    }

    /// The connection has given its buffer back, or has become known.
    pub(super) fn release(&mut self, connection: &mut Connection) {
        if let Some(pool) = connection.counted.take() {
            self.held[place(pool)] -= 1;
        }
    }
}

fn place(pool: Pool) -> usize {
    BODY_POOLS.iter().position(|of| *of == pool).expect("bodies lie in three pools")
}

impl Worker {
    /// Credentials that have been read from the operator's file, at start or when it has changed. What is under way goes on by the new ones.
    pub(super) fn on_access(&mut self, table: Arc<Access>) {
        let former = self.gate.table.replace(table.clone());
        self.gate.keys.clear();
        let Some(former) = former else { return };
        self.natives_follow(|key| table.kept(&former, key));
        let find = |user: u16| table.successor(&former, user);
        for c in &mut self.connections.slots {
            c.pass = match c.pass {
                Pass::User(user) => find(user).map_or(Pass::Nobody, Pass::User),
                other => other,
            };
            let stays = c.check.as_mut().is_none_or(|check| check.follow(find));
            if !stays {
                // Its user is gone: what it is sending is read, and refused as from an unknown one.
                c.check = None;
                c.route = Route::Refused(Box::new(refusal(&c.route, &Refused::unknown_key().error)));
            }
        }
    }

    /// The head of a request has been read; `false`: it has been refused.
    pub(super) fn screen(&mut self, slot: u16, ops: &mut Ops) -> bool {
        let c = &mut self.connections.slots[slot as usize];
        let head = self.buffers.bytes(self.buffers.whole(Pool::Connection, slot).first(c.head_len()));
        match self.gate.screen(head, &c.route, &self.identity.region, self.now.wall.seconds()) {
            Ok((check, pass)) => (c.check, c.pass) = (check, pass),
            Err(refused) => {
                self.counters.add(counter(refused.reason), 1);
                if matches!(demand(&c.route), Demand::Must(_)) {
                    // The body has not been read: it never will be.
                    (c.keep_alive, c.unread) = (false, true);
                    c.phase = Phase::Working;
                    let error = known_operation(&c.route).err().unwrap_or(refused.error);
                    let reply = Reply::refused(refusal(&c.route, &error));
                    self.reply(slot, reply, ops);
                    return false;
                }
            }
        }
        true
    }

    /// A request whose answer is known from its head needs no buffer for its body; `false`: it is another.
    pub(super) fn refuse_unread(&mut self, slot: u16, ops: &mut Ops) -> bool {
        let c = &mut self.connections.slots[slot as usize];
        let refused = matches!(c.route, Route::Refused(_) | Route::ForeignHost);
        if refused {
            (c.keep_alive, c.unread) = (false, true);
            c.phase = Phase::Working;
            self.dispatch(slot, ops);
        }
        refused
    }

    /// The body has arrived up to `filled`.
    pub(super) fn feed_check(&mut self, slot: u16, filled: u32) {
        let whole = self.buffers.whole(Pool::Connection, slot);
        let c = &mut self.connections.slots[slot as usize];
        let head = c.head_len();
        if let Some(check) = &mut c.check {
            let body = c.body.unwrap_or(whole.part(head, whole.len - head));
            check.feed(self.buffers.bytes(body.part(c.hashed, filled - c.hashed)));
            c.hashed = filled;
        }
    }

    /// The request is whole; `false`: it is not from whom it says, and has been answered.
    pub(super) fn authenticate(&mut self, slot: u16, ops: &mut Ops) -> bool {
        let c = &mut self.connections.slots[slot as usize];
        let Some(check) = c.check.take() else { return true };
        match check.end() {
            Ok(user) => {
                (c.pass, c.verified) = (Pass::User(user), true);
                self.gate.release(c);
                if let Some((over, generation)) = c.over {
                    self.connections.vouched[over.0 as usize] = generation;
                }
                true
            }
            Err(refused) => {
                self.counters.add(counter(refused.reason), 1);
                if !matches!(demand(&c.route), Demand::Must(_)) {
                    return true;
                }
                // A body that is no JSON is told before the signature is, as AWS does.
                let (encoding, is_api) = (c.encoding, matches!(c.route, Route::Api(_)));
                let body = || self.buffers.bytes(self.body_of(slot));
                let parsed = if is_api { object::parse(encoding, body()).map(drop) } else { Ok(()) };
                let route = &self.connections.slots[slot as usize].route;
                let error = parsed.and(known_operation(route)).err().unwrap_or(refused.error);
                let reply = Reply::refused(refusal(route, &error));
                self.reply(slot, reply, ops);
                false
            }
        }
    }

    /// Whether the user of the request at `slot` may do `action` on `resource`.
    pub(super) fn authorize(&self, slot: u16, action: &str, resource: Resource<'_>) -> Result<(), Error> {
        self.authorize_tagged(slot, action, resource, None)
    }

    /// The same, where the request has tags.
    pub(super) fn authorize_tagged(
        &self,
        slot: u16,
        action: &str,
        resource: Resource<'_>,
        request_tags: Option<&Tags>,
    ) -> Result<(), Error> {
        let weighed = self.weigh(slot, action, resource, request_tags);
        if weighed.as_ref().is_err_and(|error| error.kind == Kind::AccessDenied) {
            self.counters.add(counter(Reason::Denied), 1);
        }
        weighed
    }

    /// The same, where a refusal is not counted, as the request may be permitted for another reason.
    pub(super) fn weigh(
        &self,
        slot: u16,
        action: &str,
        resource: Resource<'_>,
        request_tags: Option<&Tags>,
    ) -> Result<(), Error> {
        let Some(table) = &self.gate.table else { return Ok(()) };
        let c = &self.connections.slots[slot as usize];
        let Pass::User(user) = c.pass else { return Err(Refused::unsigned().error) };
        let (user, account) = (table.user(user), self.identity.account.as_str());
        let principal = Short::of(format_args!("arn:aws:iam::{account}:user/{}", user.name));
        let arn = resource.arn(&self.identity);
        let ask = Ask {
            action,
            resource: arn.as_str(),
            username: &user.name,
            principal: principal.as_str(),
            account,
            source_ip: c.peer,
            secure: c.secure,
            now: self.now.wall.seconds(),
            request_tags,
            resource_tags: self.tags_of(resource),
        };
        let why = match judge(&user.policies, self.state().policy(arn.as_str()).map(|policy| &policy.read), &ask) {
            Verdict::Allowed => return Ok(()),
            Verdict::NotAllowed => format!("because no identity-based policy allows the {action} action"),
            Verdict::DeniedByIdentity => "with an explicit deny in an identity-based policy".to_owned(),
            Verdict::DeniedByResource => "with an explicit deny in a resource-based policy".to_owned(),
        };
        let (user, resource) = (principal.as_str(), arn.as_str());
        let text = format!("User: {user} is not authorized to perform: {action} on resource: {resource} {why}");
        Err(Error::new(Kind::AccessDenied, text))
    }

    fn tags_of(&self, resource: Resource<'_>) -> Option<&Tags> {
        match resource {
            Resource::Consumer(stream, name, created) => {
                Some(&self.state().stream(stream)?.consumer(name, Some(created))?.tags)
            }
            other => Some(&self.state().stream(other.stream()?)?.tags),
        }
    }

    /// The same for a decoded request of the control plane.
    pub(super) fn authorize_request(&self, slot: u16, action: &str, request: &Request) -> Result<(), Error> {
        let tags = match request {
            Request::Mutation(Mutation::CreateStream { tags, .. } | Mutation::RegisterConsumer { tags, .. }) => {
                Some(tags)
            }
            _ => None,
        };
        match request.resource(self.state(), &self.context()) {
            Some(resource) => self.authorize_tagged(slot, action, resource, tags),
            None => Ok(()),
        }
    }

    /// Whether the request at `slot` may see what only observers and users with [`READ_METRICS`] may: the status of a refusal.
    pub(super) fn observe(&self, slot: u16) -> Result<(), u16> {
        match self.connections.slots[slot as usize].pass {
            _ if !self.gate.has_credentials() => Ok(()),
            Pass::Observer => Ok(()),
            Pass::User(_) => self.authorize(slot, READ_METRICS, Resource::Any).map_err(|_| 403),
            Pass::Nobody => Err(401),
        }
    }

    /// A connection that has had no verified request and is not being answered: of those the one that has been so for longest.
    pub(super) fn oldest_stranger(&self, but: u16) -> Option<u16> {
        if !self.gate.has_credentials() {
            return None;
        }
        let goes = |c: &Connection| {
            let reads =
                matches!(c.phase, Phase::Head | Phase::Body | Phase::Chunks | Phase::Unbuffered | Phase::Draining);
            reads && !c.verified
        };
        let slots = self.connections.slots.iter().enumerate().map(|(slot, c)| (slot as u16, c));
        // Streams of HTTP/2 take no socket of the ring: closing one makes no room.
        let ring = self.limits.connections;
        let strangers = slots.filter(|(slot, c)| *slot < ring && *slot != but && goes(c));
        strangers.min_by_key(|(slot, c)| (c.idle_since, *slot)).map(|(slot, _)| slot)
    }

    /// Tells the operator of refusals at all workers, each reason once a minute at most. Once a second; worker 0.
    pub(super) fn tell_refusals(&mut self) {
        if self.id != 0 {
            return;
        }
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            let (when, count) = self.gate.told[at];
            let now = self.all_counters.iter().map(|of| of.get(counter(reason))).sum();
            if now > count && self.now.mono >= when {
                self.gate.told[at] = (self.now.mono.plus_ms(TOLD_EVERY_MS), now);
                self.tell_operator(Notice::Refusals { count: now - count, reason });
            }
        }
    }
}
