//! DeregisterStreamConsumer.

use super::consumer::NamedConsumer;
use super::error::Error;
use super::object::Object;
use super::request::Mutation;
use crate::catalog::identity::Identity;

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    Ok(Mutation::DeregisterConsumer(NamedConsumer::decode(request, identity)?))
}
