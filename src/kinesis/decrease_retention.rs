//! DecreaseStreamRetentionPeriod.

use super::error::Error;
use super::increase_retention::stream_and_hours;
use super::object::Object;
use super::request::Mutation;
use crate::catalog::identity::Identity;

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    let (stream, hours) = stream_and_hours(request, identity)?;
    Ok(Mutation::DecreaseRetention { stream, hours })
}
