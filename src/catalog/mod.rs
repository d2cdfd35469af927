//! Streams, shards, live segments: the control plane's state machine.
//!
//! [`decide`], [`reshard`] and [`moving`] turn a request into a [`change::Change`] or an error of the API, by looking at the state alone;
//! [`journal::Catalog`] makes changes durable in order; [`state::State::apply`] is the only thing that alters a state. Every worker
//! holds a copy and applies the same numbered changes.

pub mod balance;
pub mod change;
pub mod consumer;
pub mod decide;
pub mod entry;
pub mod identity;
pub mod journal;
pub mod moving;
pub mod place;
pub mod recover;
pub mod reserve;
pub mod reshard;
pub mod resource_policy;
pub mod routes;
pub mod state;

#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod reserve_tests;
