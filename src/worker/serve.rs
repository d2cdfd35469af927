//! A whole request to whoever works on it, and its reply to the connection.

use super::Worker;
use super::connection::Phase;
use crate::auth::ask::Resource;
use crate::auth::sigv4;
use crate::catalog::state::{Stream, StreamStatus};
use crate::client_metrics;
use crate::http::http1;
use crate::http::response::{ContentType, HEAD_BYTES_MAX, Head, write_head};
use crate::io::buffers::{Pool, Span};
use crate::io::op::Ops;
use crate::kinesis::arn;
use crate::kinesis::cbor_answer;
use crate::kinesis::error::Error;
use crate::kinesis::get_shard_iterator::{GetShardIterator, Start};
use crate::kinesis::iterator::{ShardIterator, TOKEN_LEN};
use crate::kinesis::object::Encoding;
use crate::kinesis::operation::{self, Cold, Operation, Refusal};
use crate::kinesis::put_record::ANSWER_MAX;
use crate::kinesis::request::{self, Context, Request};
use crate::log::format::ShardKey;
use crate::observe::counter::Counter;
use crate::observe::latency::Latency;
use crate::tables;

/// What a request is for, known from its head.
#[derive(Clone, Debug)]
pub enum Route {
    Api(Operation),
    /// An operation on lease tables.
    Tables(tables::operation::Operation),
    /// Metrics that a client sends.
    ClientMetrics(client_metrics::dialect::Call),
    Health,
    Metrics,
    /// Moves of shards, with the key that the client has sent.
    Rebalance(Option<[u8; 16]>),
    /// A snapshot, with the key that the client has sent.
    Snapshot(Option<[u8; 16]>),
    Refused(Box<Refusal>),
    /// The Host header names something else than this machine's loopback.
    ForeignHost,
}

impl Route {
    /// What the time until its answer counts as.
    pub(super) fn latency(&self) -> Option<Latency> {
        Some(match self {
            Route::Api(Operation::PutRecord) => Latency::PutRecord,
            Route::Api(Operation::PutRecords) => Latency::PutRecords,
            Route::Api(Operation::GetRecords) => Latency::GetRecords,
            Route::Api(Operation::Cold(Cold::GetShardIterator)) => Latency::GetShardIterator,
            Route::Api(Operation::Cold(Cold::SubscribeToShard)) => Latency::SubscribeToShard,
            Route::Api(Operation::Cold(_)) => Latency::Control,
            Route::Tables(_) => Latency::LeaseTables,
            Route::ClientMetrics(_) => Latency::ClientMetrics,
            _ => return None,
        })
    }
}

/// Where moves of shards and snapshots are asked for, with `Authorization: Penstock` and the server's key as 32 hexadecimal digits. A web page
/// cannot know the key, nor send the header unasked.
pub const REBALANCE_PATH: &str = "/admin/rebalance";
pub const SNAPSHOT_PATH: &str = "/admin/snapshot";
pub const ADMIN_SCHEME: &str = "Penstock ";

fn admin_key(authorization: &[u8]) -> Option<[u8; 16]> {
    let digits = std::str::from_utf8(authorization).ok()?.strip_prefix(ADMIN_SCHEME)?;
    let whole = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then(|| u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)).flatten()
}

/// The body of a reply.
pub enum Body {
    Empty,
    Text(&'static str),
    Bytes(Vec<u8>),
    /// A short answer of the ack path, which does not allocate.
    Short([u8; ANSWER_MAX], usize),
    /// A buffer of this worker, or one that is lent to it: released when it has been sent.
    Span(Span),
}

pub struct Reply {
    pub status: u16,
    pub content_type: Option<ContentType>,
    pub body: Body,
}

impl Reply {
    pub fn empty() -> Reply {
        Reply { status: 200, content_type: None, body: Body::Empty }
    }
    pub fn text(status: u16, text: &'static str) -> Reply {
        Reply { status, content_type: Some(ContentType::Text), body: Body::Text(text) }
    }
    pub fn json(body: Vec<u8>) -> Reply {
        Reply { status: 200, content_type: Some(ContentType::AmzJson), body: Body::Bytes(body) }
    }
    pub fn span(span: Span) -> Reply {
        Reply { status: 200, content_type: Some(ContentType::AmzJson), body: Body::Span(span) }
    }
    pub fn error(error: &Error) -> Reply {
        Reply::refused(Refusal::of(error))
    }
    pub fn refused(refusal: Refusal) -> Reply {
        let Refusal { status, content_type, body } = refusal;
        Reply { status, content_type: Some(content_type), body: Body::Bytes(body) }
    }
}

impl Reply {
    /// An answer of the API in the encoding of its request. Those that are bytes have been made as JSON.
    fn encoded(self, encoding: Encoding) -> Reply {
        match (encoding, self.content_type, self.body) {
            (Encoding::Cbor, Some(ContentType::AmzJson), body) => {
                let body = match body {
                    Body::Bytes(json) => Body::Bytes(cbor_answer::of_json(&json)),
                    body => body,
                };
                Reply { content_type: Some(ContentType::AmzCbor), body, ..self }
            }
            (_, _, body) => Reply { body, ..self },
        }
    }
}

impl Worker {
    /// What the head of a request asks for.
    pub(super) fn route_of(request: &http1::Request<'_>, body_len: usize, has_credentials: bool) -> Route {
        if !has_credentials && !http1::host_allowed(request.host) {
            return Route::ForeignHost;
        }
        match (request.method, request.path) {
            ("GET" | "HEAD", "/health") => Route::Health,
            ("GET" | "HEAD", "/metrics") => Route::Metrics,
            ("POST", REBALANCE_PATH) => Route::Rebalance(request.authorization.and_then(admin_key)),
            ("POST", SNAPSHOT_PATH) => Route::Snapshot(request.authorization.and_then(admin_key)),
            ("POST", _) if let Some(operation) = request.target.and_then(tables::operation::Operation::from_target) => {
                super::tables::route(operation, request)
            }
            ("POST", _) if let Some(route) = super::client_metrics::route(request) => route,
            (method, _) => match operation::admit(method, request.target, request.content_type, body_len) {
                // With credentials it is verified as a whole; an operation that is not there is told before its signature is looked at.
                Ok(operation) if has_credentials || operation == Operation::Cold(operation::Cold::Unknown) => {
                    Route::Api(operation)
                }
                Ok(operation) => match sigv4::check_form(request.authorization, request.query, request.dated) {
                    Ok(()) => Route::Api(operation),
                    Err(error) => Route::Refused(Box::new(Refusal::of(&error))),
                },
                Err(refusal) => Route::Refused(Box::new(refusal)),
            },
        }
    }

    /// Hands a whole request on.
    pub(super) fn dispatch(&mut self, slot: u16, ops: &mut Ops) {
        match self.connections.slots[slot as usize].route.clone() {
            Route::Api(Operation::PutRecords) => self.put_begin(slot, false, ops),
            Route::Api(Operation::PutRecord) => self.put_begin(slot, true, ops),
            Route::Api(Operation::GetRecords) => self.get_begin(slot, ops),
            Route::Api(Operation::Cold(cold)) => self.cold(slot, cold, ops),
            Route::Tables(operation) => self.tables_begin(slot, operation, ops),
            Route::Health => self.health(slot, ops),
            Route::ClientMetrics(call) => self.client_metrics_begin(slot, call, ops),
            Route::Metrics if self.observe(slot).is_err() => self.refuse_observer(slot, ops),
            Route::Metrics => {
                self.body_is_read(slot);
                self.metrics_begin(slot, ops);
            }
            Route::Rebalance(key) => self.rebalance_begin(slot, key, ops),
            Route::Snapshot(key) => {
                self.body_is_read(slot);
                self.snapshot_begin(slot, key, ops);
            }
            Route::ForeignHost => {
                let text = "This server answers to loopback names only (localhost, 127.0.0.1, [::1]).\n";
                self.connections.slots[slot as usize].keep_alive = false;
                self.reply(slot, Reply::text(403, text), ops);
            }
            Route::Refused(refusal) => self.reply(slot, Reply::refused(*refusal), ops),
        }
    }

    /// Whether a key is the one in the file `admin`; as long in any case.
    pub(super) fn is_admin(&self, key: Option<[u8; 16]>) -> bool {
        let differing = key.map(|key| key.iter().zip(&self.options.admin_key).fold(0, |all, (a, b)| all | (a ^ b)));
        differing == Some(0)
    }

    pub(super) fn refuse_stranger(&mut self, slot: u16, ops: &mut Ops) {
        let text =
            "This takes the key in the file `admin` of the data directory, as penstock's own commands send it.\n";
        self.reply(slot, Reply::text(403, text), ops);
    }

    fn refuse_observer(&mut self, slot: u16, ops: &mut Ops) {
        let status = self.observe(slot).err().unwrap_or(401);
        let text = "This takes `Authorization: Bearer` with a token of the observers in the credentials file, or the signature of a user who \
                    may penstock:ReadMetrics.\n";
        self.reply(slot, Reply::text(status, text), ops);
    }

    pub(super) fn is_single_put(&self, slot: u16) -> bool {
        matches!(self.connections.slots[slot as usize].route, Route::Api(Operation::PutRecord))
    }

    fn cold(&mut self, slot: u16, cold: operation::Cold, ops: &mut Ops) {
        let encoding = self.connections.slots[slot as usize].encoding;
        let body = self.buffers.bytes(self.body_of(slot));
        let decoded = request::decode(cold, encoding, body, &self.identity).and_then(|request| {
            self.authorize_request(slot, cold.action(), &request)?;
            Ok(request)
        });
        self.body_is_read(slot);
        match decoded {
            Err(error) => self.reply(slot, Reply::error(&error), ops),
            Ok(Request::Mutation(mutation)) => self.mutate(slot, mutation, ops),
            Ok(Request::Query(query)) => {
                let reply = match query.answer(self.state(), &self.context()) {
                    Ok(body) => Reply::json(body),
                    Err(error) => Reply::error(&error),
                };
                self.reply(slot, reply, ops);
            }
            Ok(Request::GetShardIterator(request)) => self.iterator(slot, &request, ops),
            Ok(Request::SubscribeToShard(request)) => self.subscribe(slot, request, ops),
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            identity: &self.identity,
            now: self.now,
            retention_now: self.retention.now(),
            retention_hour: self.retention_hour,
            key: &self.iterator_key,
        }
    }

    fn iterator(&mut self, slot: u16, request: &GetShardIterator, ops: &mut Ops) {
        let resolved = request.resolve(self.state(), &self.identity).and_then(|(stream, shard)| {
            let start = request.start(stream, shard, &self.context())?;
            Ok((ShardKey::new(stream.number, shard.number), shard.log, start))
        });
        let (shard, log, start) = match resolved {
            Ok(found) => found,
            Err(error) => return self.reply(slot, Reply::error(&error), ops),
        };
        match start {
            Start::At(number) => self.reply_iterator(slot, shard, number, 0, ops),
            Start::After(number) => self.reply_iterator(slot, shard, number + 1, 0, ops),
            Start::TrimHorizon => self.reply_iterator(slot, shard, 0, 0, ops),
            Start::AtTimestamp(at) => self.reply_iterator(slot, shard, 0, at, ops),
            Start::Latest => self.iterator_latest(slot, shard, log, ops),
        }
    }

    pub(super) fn reply_iterator(
        &mut self,
        slot: u16,
        shard: ShardKey,
        sequence: u64,
        arrival_floor: u64,
        ops: &mut Ops,
    ) {
        self.nonce += 1;
        let it = ShardIterator {
            stream: shard.stream(),
            shard: shard.shard(),
            sequence,
            arrival_floor,
            issued: self.now,
            nonce: self.nonce,
        };
        let mut token = [0; TOKEN_LEN];
        it.seal(&self.iterator_key, &mut token);
        let body = [b"{\"ShardIterator\":\"", &token[..], b"\"}"].concat();
        self.reply(slot, Reply::json(body), ops);
    }

    /// The same for connection `slot`, whose user must be allowed to do `action` there: who is not learns nothing of the stream.
    pub(super) fn permitted_stream(
        &self,
        slot: u16,
        action: &str,
        name: Option<&str>,
        arn: Option<&str>,
    ) -> Result<&Stream, Error> {
        let name = arn::resolve(name, arn, &self.identity)?;
        self.authorize(slot, action, Resource::Stream(name))?;
        self.resolve_stream(Some(name), None)
    }

    /// The stream that a request names by name or ARN, in a state in which it serves records.
    pub(super) fn resolve_stream(&self, name: Option<&str>, arn: Option<&str>) -> Result<&Stream, Error> {
        let name = arn::resolve(name, arn, &self.identity)?;
        let stream = arn::find_stream(self.state(), name, &self.identity)?;
        match stream.status {
            StreamStatus::Deleting => Err(arn::stream_not_found(name, &self.identity)),
            _ => Ok(stream),
        }
    }

    fn health(&mut self, slot: u16, ops: &mut Ops) {
        let get = |counter: Counter| self.all_counters.iter().map(|c| c.get(counter)).sum::<u64>();
        // Of every worker: this one may have none of the logs that matter.
        let failed = get(Counter::LogsFailedNow) > 0;
        let (used, space, damaged) = (get(Counter::LogBytesUsedNow), get(Counter::LogBytesNow), get(Counter::Damaged));
        let stepped = self.all_counters.iter().map(|c| c.get(Counter::ClockSteppedSecondsNow)).max().unwrap_or(0);
        let status = if failed { "failed" } else { "ok" };
        let left = self.all_counters.iter().map(|c| c.get(Counter::SecondsLeftNow)).filter(|s| *s > 0).min();
        let left = left.map_or("null".to_string(), |s| s.to_string());
        let percent = used * 100 / space.max(1);
        let body = match self.observe(slot) {
            Err(_) => format!("{{\"status\":\"{status}\"}}\n"),
            Ok(()) => format!(
                "{{\"status\":\"{status}\",\"percent_full\":{percent},\"seconds_until_full\":{left},\"log_bytes_used\":{used},\
             \"log_bytes\":{space},\"damaged\":{damaged},\"clock_stepped_seconds\":{stepped}}}\n"
            ),
        };
        let status = if failed { 503 } else { 200 };
        let reply = Reply { status, content_type: Some(ContentType::Json), body: Body::Bytes(body.into_bytes()) };
        self.reply(slot, reply, ops);
    }

    pub(super) fn next_request_id(&mut self) -> u128 {
        self.request_id =
            self.request_id.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.request_id
    }

    /// Sends a reply: the head, and a small body behind it, from the connection's own slot.
    pub(super) fn reply(&mut self, slot: u16, reply: Reply, ops: &mut Ops) {
        let connection = &self.connections.slots[slot as usize];
        debug_assert_eq!(connection.phase, Phase::Working, "a reply to no request");
        let reply = reply.encoded(connection.encoding);
        let whole = self.buffers.whole(Pool::Reply, slot);
        let len = match &reply.body {
            Body::Empty => 0,
            Body::Text(text) => text.len(),
            Body::Bytes(bytes) => bytes.len(),
            Body::Short(_, len) => *len,
            Body::Span(span) => span.len as usize,
        };
        let fits = HEAD_BYTES_MAX + len <= whole.len as usize;
        let then = match &reply.body {
            Body::Span(span) => Some(*span),
            Body::Bytes(bytes) if !fits => match self.buffers.take_for(len) {
                Some(span) => {
                    self.buffers.bytes_mut(span.first(len as u32)).copy_from_slice(bytes);
                    Some(span.first(len as u32))
                }
                None => return self.keep_reply(slot, reply),
            },
            _ => None,
        };
        self.counters.add(Counter::Requests, 1);
        if reply.status >= 400 {
            self.counters.add(Counter::RequestErrors, 1);
        }
        let head = Head {
            status: reply.status,
            content_type: reply.content_type,
            content_length: Some(len),
            request_id: self.next_request_id(),
            date: &self.date,
            close: !self.connections.slots[slot as usize].keep_alive || self.stopping,
        };
        let out = self.buffers.bytes_mut(whole);
        let mut used = write_head(out, &head);
        let small: &[u8] = match &reply.body {
            Body::Text(text) => text.as_bytes(),
            Body::Bytes(bytes) if fits => bytes,
            Body::Short(bytes, len) => &bytes[..*len],
            _ => &[],
        };
        out[used..used + small.len()].copy_from_slice(small);
        used += small.len();
        self.send(slot, whole.first(used as u32), then, ops);
    }
}
