//! DeleteStream.

use super::arn::StreamMembers;
use super::constraint::Constraints;
use super::error::Error;
use super::object::Object;
use super::request::Mutation;
use crate::catalog::identity::Identity;

pub(super) fn decode(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    let stream = StreamMembers::take(request)?;
    let enforce = request.boolean("EnforceConsumerDeletion")?.unwrap_or(false);
    let mut constraints = Constraints::default();
    let stream = stream.constrain(&mut constraints);
    constraints.check()?;
    Ok(Mutation::DeleteStream { stream: stream.resolve(identity)?, enforce })
}
