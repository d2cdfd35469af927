//! Metrics that clients send, kept by worker 0; and `/metrics`, whichever worker is asked.

use super::Worker;
use super::access::refusal;
use super::errand::Errand;
use super::serve::{Body, Reply, Route};
use crate::auth::ask::Resource;
use crate::auth::sigv4;
use crate::client_metrics::dialect::{self, Call, Dialect, Error, Kind};
use crate::client_metrics::request;
use crate::http::http1;
use crate::http::response::ContentType;
use crate::io::op::Ops;
use crate::observe::expose;

/// What a request of CloudWatch is for; `None`: it is none.
pub(super) fn route(head: &http1::Request<'_>) -> Option<Route> {
    let call = dialect::call(head.path, head.target, head.content_type)?;
    let route = Route::ClientMetrics(call);
    Some(match sigv4::check_form(head.authorization, head.query, head.dated) {
        Ok(()) => route,
        Err(error) => Route::Refused(Box::new(refusal(&route, &error))),
    })
}

impl Reply {
    pub(super) fn client_metrics(dialect: Dialect, result: Result<(), Error>) -> Reply {
        let (status, content_type, body) = dialect::answer(dialect, result);
        Reply { status, content_type: Some(content_type), body: Body::Bytes(body) }
    }
}

impl Worker {
    /// A whole request has come.
    pub(super) fn client_metrics_begin(&mut self, slot: u16, call: Call, ops: &mut Ops) {
        if let Err(error) = self.authorize(slot, "cloudwatch:PutMetricData", Resource::Any) {
            return self.reply(slot, Reply::refused(refusal(&Route::ClientMetrics(call), &error)), ops);
        }
        let body = self.buffers.bytes(self.body_of(slot));
        let data = match call.is_known {
            true => request::decode(call.dialect, body),
            false => Err(Error::unknown_operation()),
        };
        self.body_is_read(slot);
        let refused = match data {
            Err(error) => error,
            Ok(data) => match self.send_errand(slot, Errand::KeepMetrics(call.dialect, data), ops) {
                true => return,
                false => Error::new(Kind::Throttling, "Rate exceeded"),
            },
        };
        self.reply(slot, Reply::client_metrics(call.dialect, Err(refused)), ops);
    }

    pub(super) fn metrics_begin(&mut self, slot: u16, ops: &mut Ops) {
        // The server's own are told in any case.
        if !self.send_errand(slot, Errand::ShowMetrics, ops) {
            let reply = self.metrics_reply("");
            self.reply(slot, reply, ops);
        }
    }

    /// Counters of every worker, and what clients have sent.
    pub(super) fn metrics_reply(&self, of_clients: &str) -> Reply {
        let mut text = expose::metrics(&self.all_counters);
        text.push_str(of_clients);
        Reply { status: 200, content_type: Some(ContentType::Metrics), body: Body::Bytes(text.into_bytes()) }
    }
}
