//! IncreaseStreamRetentionPeriod.

use super::arn::StreamMembers;
use super::constraint::Constraints;
use super::error::Error;
use super::object::Object;
use super::request::Mutation;
use crate::catalog::identity::Identity;

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    let (stream, hours) = stream_and_hours(request, identity)?;
    Ok(Mutation::IncreaseRetention { stream, hours })
}

/// The members that both operations on retention have. Which hours are too few or too many the catalog judges, with texts of its own.
pub(super) fn stream_and_hours(request: &Object<'_>, identity: &Identity) -> Result<(String, u32), Error> {
    let stream = StreamMembers::take(request)?;
    let hours = request.integer("RetentionPeriodHours")?;
    let mut constraints = Constraints::default();
    let hours = constraints.required_integer("retentionPeriodHours", hours, 1, i32::MAX);
    let stream = stream.constrain(&mut constraints);
    constraints.check()?;
    Ok((stream.resolve(identity)?, hours))
}
