//! Errands: what a connection's worker asks of worker 0, which alone keeps it.

use super::Worker;
use super::mailbox::{ConnectionId, Message};
use super::serve::Reply;
use crate::client_metrics::dialect::Dialect;
use crate::client_metrics::request::Datum;
use crate::io::op::Ops;
use crate::tables::error::{Error, Kind};
use crate::tables::request::Request;

/// What is asked for.
pub enum Errand {
    /// A request on lease tables, and the bytes of its body.
    Tables { request: Box<Request>, bytes: usize },
    /// Keep what a client measures.
    KeepMetrics(Dialect, Vec<Datum>),
    /// Show what clients have measured.
    ShowMetrics,
}

/// What is answered.
pub enum Outcome {
    /// JSON, or an error.
    Tables(Result<String, Error>),
    MetricsKept(Dialect),
    /// In the text format of Prometheus.
    Metrics(String),
}

/// Whose errand it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub worker: u16,
    pub connection: ConnectionId,
}

impl Worker {
    /// Sends an errand to worker 0, or does it there. `false`: worker 0 has too many.
    pub(super) fn send_errand(&mut self, slot: u16, errand: Errand, ops: &mut Ops) -> bool {
        let connection = self.connections.id(slot);
        if self.control.is_some() {
            self.run_errand(self.id, connection, errand, ops);
            return true;
        }
        let may = self.mail.may_ask(0, 1);
        if may {
            self.mail.ask(0, Message::Errand { from: connection, errand: Box::new(errand) });
        }
        may
    }

    /// Worker 0: every errand is answered once, at once or later.
    pub(super) fn run_errand(&mut self, worker: u16, connection: ConnectionId, errand: Errand, ops: &mut Ops) {
        let sender = Sender { worker, connection };
        match errand {
            Errand::Tables { request, bytes } => self.tables_asked(sender, *request, bytes, ops),
            Errand::KeepMetrics(dialect, data) => {
                self.client_metrics.add(self.now.mono, data);
                self.answer_errand(sender, Outcome::MetricsKept(dialect), ops);
            }
            Errand::ShowMetrics => {
                let text = self.client_metrics.text(self.now.mono);
                self.answer_errand(sender, Outcome::Metrics(text), ops);
            }
        }
    }

    pub(super) fn answer_errand(&mut self, sender: Sender, outcome: Outcome, ops: &mut Ops) {
        match sender.worker == self.id {
            true => self.errand_done(sender.connection, outcome, ops),
            false => {
                let outcome = Box::new(outcome);
                self.mail.answer(sender.worker, Message::ErrandDone { to: sender.connection, outcome });
            }
        }
    }

    /// The answer to an errand of a connection of this worker.
    pub(super) fn errand_done(&mut self, to: ConnectionId, outcome: Outcome, ops: &mut Ops) {
        if !self.connections.awaits(to) {
            return;
        }
        let reply = match outcome {
            Outcome::Tables(result) => Reply::tables(result),
            Outcome::MetricsKept(dialect) => Reply::client_metrics(dialect, Ok(())),
            Outcome::Metrics(text) => self.metrics_reply(&text),
        };
        self.reply(to.slot, reply, ops);
    }
}

/// Clients try this one again.
pub(super) fn busy() -> Error {
    Error::new(Kind::ProvisionedThroughputExceeded, "Too many requests on tables are waiting; try again.")
}
