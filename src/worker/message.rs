//! Messages taken from other workers.

use super::Worker;
use super::append::{Appended, HELD_MS, Pending};
use super::mailbox::{Asker, Message, PutRefusal};
use crate::io::op::Ops;

/// Messages of one worker that are taken in a turn: enough to keep up, few enough to keep turns short.
const MESSAGES_PER_TURN: usize = 512;

impl Worker {
    pub(super) fn take_messages(&mut self, ops: &mut Ops) {
        for from in 0..self.workers {
            for _ in 0..MESSAGES_PER_TURN {
                let Some(message) = self.mail.take(from) else { break };
                self.on_message(from, message, ops);
            }
        }
    }

    fn on_message(&mut self, from: u16, message: Message, ops: &mut Ops) {
        match message {
            Message::Boot(news) => self.recover_logs(news.0, news.1, ops),
            Message::Recovered { records, epoch, segments } => {
                self.worker_recovered(from, records, epoch, &segments, ops)
            }
            Message::HalfFailed { given, half } => self.half_failed(given, half),
            Message::MoreLogs(superblock) => self.make_logs(*superblock, ops),
            Message::Serve { epoch, retention } => {
                self.retention.begin(self.now, retention);
                self.serve(epoch, ops);
            }
            Message::Apply(change) => self.apply_change(change.0, &change.1),
            Message::Applied { number } => {
                self.control.as_mut().expect("answers to changes go to worker 0").note_applied(from, number)
            }
            Message::Mutate { from: connection, mutation } => self.wish_mutation(from, connection, mutation, ops),
            Message::Mutated { to, result } => {
                self.mail.answered(from);
                self.mutated(to, result, ops);
            }
            Message::Errand { from: connection, errand } => self.run_errand(from, connection, *errand, ops),
            Message::ErrandDone { to, outcome } => {
                self.mail.answered(from);
                self.errand_done(to, *outcome, ops);
            }
            Message::Journal { log, change } => self.journal(from, log, *change, ops),
            Message::Journaled { log, done } => {
                self.mail.answered(from);
                self.journaled(log, done);
            }
            Message::Scrubbed(change) => self.keep_scrubs(*change, ops),
            Message::ShardEnd { shard, end, stays } => self.note_end(shard, end, stays),
            Message::Put { asker, batch, seen } => {
                let deadline = self.now.mono.plus_ms(HELD_MS);
                self.append_or_wait(Pending::Remote { worker: from, asker, batch, seen, deadline });
            }
            Message::Appended { asker, log, first, arrival, position } => {
                self.mail.answered(from);
                self.put_settled(asker, Ok(Appended { log, first, arrival, position }), ops);
            }
            Message::PutRefused { asker, why } => {
                self.mail.answered(from);
                self.put_settled(asker, Err(why), ops);
            }
            Message::Durable { log, position, failed } => self.log_durable(log, position, failed, ops),
            Message::Get { from: connection, call } => self.get_asked(from, connection, call),
            Message::Got { to, result } => {
                self.mail.answered(from);
                self.got(to, result, ops);
            }
            Message::Return { span } => self.take_back(span),
            Message::Latest { from: connection, shard, seen } => self.latest_asked(from, connection, shard, seen, ops),
            Message::LatestIs { to, result } => {
                self.mail.answered(from);
                self.latest_got(to, result, ops);
            }
            Message::Rebalance(letter) => self.on_rebalance_letter(from, letter, ops),
            Message::Fanout(letter) => self.on_fanout_letter(from, letter, ops),
            Message::Handover(letter) => self.on_handover_letter(from, letter),
            Message::Snapshot(letter) => self.on_snapshot_letter(from, letter, ops),
            Message::Stopping => self.stopped_workers[from as usize] = true,
        }
    }

    /// An owner has copied a lent frame, or refused it.
    fn put_settled(&mut self, asker: Asker, settled: Result<Appended, PutRefusal>, ops: &mut Ops) {
        match (asker, settled) {
            (Asker::Native(id), Ok(appended)) => self.native_appended(id, appended),
            (Asker::Native(id), Err(why)) => self.native_refused(id, why),
            (Asker::Put { put, frame }, settled) => {
                self.put_loan_ended(put);
                match settled {
                    Ok(appended) => self.frame_appended(put, frame, appended),
                    Err(why) => self.frame_refused(put, frame, why),
                }
                self.put_progress(put, ops);
            }
        }
    }
}
