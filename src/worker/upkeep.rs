//! What worker 0 wishes for by itself, as time goes by.

use super::Worker;
use super::control::{Control, Wish};
use crate::catalog::change::Change;
use crate::catalog::state::ShardState;
use crate::io::op::Ops;

impl Worker {
    /// Retention time survives a restart. Worker 0, now and then.
    pub(super) fn keep_retention_time(&mut self, ops: &mut Ops) {
        let may = |control: &&mut Control| !control.failed && !control.catalog.waits_for_room();
        let Some(control) = self.control.as_mut().filter(may) else { return };
        if let Some(wall) = self.retention.to_keep() {
            control.catalog.propose(Change::RetentionClock { wall }, &mut self.buffers, ops);
        }
    }

    /// Closed shards whose last record has expired leave the catalog. Worker 0, now and then.
    pub(super) fn expire_shards(&mut self) {
        let (now, hour) = (self.retention.now(), self.retention_hour);
        let Some(control) = self.control.as_mut() else { return };
        for stream in control.catalog.state().streams.values() {
            let horizon = now.0.saturating_sub(stream.retention_hours as u64 * hour as u64 * 1_000_000);
            let expired = |state: &ShardState| matches!(state, ShardState::Closed { at, .. } if at.0 < horizon);
            let shards: Vec<u32> = stream.shards.values().filter(|s| expired(&s.state)).map(|s| s.number).collect();
            if !shards.is_empty() && control.may_wish() {
                control.wishes.push_back(Wish::Expired { stream: stream.number, shards });
            }
        }
    }
}
