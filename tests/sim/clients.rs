//! The clients in the world: when they think, connect, and lose patience.

use super::auditor::Auditor;
use super::client::{Act, PATIENCE, Role};
use super::clock::{MICROSECOND, MILLISECOND, SECOND};
use super::net;
use super::wire::Replies;
use super::world::{Event, Outgoing, World};

impl World<'_> {
    pub(super) fn client_of(&self, id: net::Id) -> Option<usize> {
        self.clients.iter().position(|client| client.connection == Some(id))
    }

    /// A reply has come to a client: an auditor goes on at once.
    pub(super) fn note_progress(&mut self, client: usize) {
        if matches!(self.clients[client].role, Role::Auditor(_)) && self.clients[client].idle() {
            self.heap.at(self.clock.mono() + MICROSECOND, Event::Think { client });
        }
    }

    pub(super) fn think(&mut self, client: usize) {
        let now = self.clock.mono();
        let is_auditor = matches!(self.clients[client].role, Role::Auditor(_));
        if self.auditing != is_auditor || self.audited {
            return;
        }
        let pause = self.clients[client].pause(&self.shared.settings);
        let again = match &self.clients[client].role {
            // Its next thought comes with the reply.
            Role::Auditor(_) => !self.clients[client].idle() || self.clients[client].connection.is_none(),
            _ => true,
        };
        if self.clients[client].connection.is_none() {
            let native = self.clients[client].is_native();
            let connection = self.with_net(|net, later| net.connect_to(native, now, later));
            self.clients[client].connection = connection;
            if let Some(id) = connection.filter(|_| !native) {
                let base = self.clients[client].first;
                self.outgoing.insert(id, Outgoing { client, replies: Replies::default(), base, count: 0 });
            }
        }
        if again {
            let delay = if self.clients[client].connection.is_none() { pause.max(10 * MILLISECOND) } else { pause };
            self.heap.at(now + delay, Event::Think { client });
        }
        let Some(id) = self.clients[client].connection else { return };
        let Act::Send { bytes, call, half_close } = self.clients[client].think(&mut self.shared) else {
            if let Role::Auditor(Auditor { done: true, .. }) = self.clients[client].role {
                self.audited(client, id);
            }
            return;
        };
        if matches!(self.clients[client].role, Role::Mover(_)) && self.node.is_some() {
            self.plan.moves_shards();
        }
        if matches!(self.clients[client].role, Role::Keeper(_)) && self.node.is_some() {
            self.plan.takes_snapshot();
        }
        self.with_net(|net, later| net.client_sends(now, id, &bytes, later));
        if half_close {
            self.with_net(|net, later| net.client_half_closes(now, id, later));
        }
        self.heap.at(now + PATIENCE, Event::Deadline { client, call });
        let resets = self.net.manners.resets;
        if self.random.chance(resets) {
            self.heap.at(now + self.random.delay(200 * MICROSECOND), Event::Quit { client, connection: id });
        }
    }

    /// A call has had its time.
    pub(super) fn deadline(&mut self, client: usize, call: u64) {
        let late = self.clients[client].first <= call && !self.clients[client].idle();
        if !late {
            return;
        }
        // A stream may last; silence may not.
        let silence = self.clients[client].heard().map(|heard| self.clock.mono().saturating_sub(heard));
        if silence.is_some_and(|silence| silence < PATIENCE) {
            self.heap.at(self.clock.mono() + PATIENCE / 4, Event::Deadline { client, call });
            return;
        }
        let settings = &self.shared.settings;
        let excused = self.node.is_none() || settings.pauses && !self.auditing;
        assert!(
            excused,
            "a call has not been answered for {} s: {:?}",
            PATIENCE / SECOND,
            self.clients[client].puts_at(0)
        );
        let Some(id) = self.clients[client].connection else { return };
        let now = self.clock.mono();
        self.with_net(|net, later| net.client_resets(now, id, later));
        self.clients[client].disconnected(&mut self.shared);
    }
}
