//! PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy.

use super::arn::StreamArn;
use super::constraint::{Constraints, Text};
use super::error::{Error, Kind};
use super::object::Object;
use super::request::{Context, Mutation};
use super::shard_answer::body;
use crate::auth::policy_text;
use crate::catalog::identity::Identity;
use crate::catalog::state::State;
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetResourcePolicy {
    pub arn: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    policy: &'a str,
}

pub(super) fn decode_put(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    let (arn, policy) = (request.string("ResourceARN")?, request.string("Policy")?);
    let mut constraints = Constraints::default();
    let policy = constraints.required_text("policy", policy, &Text::ANY);
    let arn = constraints.required_text("resourceARN", arn, &Text::RESOURCE_ARN);
    constraints.check()?;
    check_ours(&arn, identity)?;
    match policy_text::of_resource(&policy) {
        Ok(_) => Ok(Mutation::PutResourcePolicy { arn, policy }),
        Err(why) => Err(Error::new(Kind::InvalidArgument, format!("The resource policy is malformed: {why}"))),
    }
}

pub(super) fn decode_get(request: &Object<'_>, identity: &Identity) -> Result<GetResourcePolicy, Error> {
    Ok(GetResourcePolicy { arn: arn(request, identity)? })
}

pub(super) fn decode_delete(request: &Object<'_>, identity: &Identity) -> Result<Mutation, Error> {
    Ok(Mutation::DeleteResourcePolicy { arn: arn(request, identity)? })
}

fn arn(request: &Object<'_>, identity: &Identity) -> Result<String, Error> {
    let arn = request.string("ResourceARN")?;
    let mut constraints = Constraints::default();
    let arn = constraints.required_text("resourceARN", arn, &Text::RESOURCE_ARN);
    constraints.check()?;
    check_ours(&arn, identity)?;
    Ok(arn)
}

/// The text has the form of an ARN.
fn check_ours(text: &str, identity: &Identity) -> Result<(), Error> {
    let Identity { region, account } = identity;
    let ours = StreamArn::parse(text).is_some_and(|arn| arn.account == account && arn.region == region);
    match ours {
        true => Ok(()),
        false => {
            let text = format!("Resource {text} not found: this endpoint serves account {account} in {region}.");
            Err(Error::new(Kind::ResourceNotFound, text))
        }
    }
}

impl GetResourcePolicy {
    pub(super) fn answer(&self, state: &State, _: &Context<'_>) -> Result<Vec<u8>, Error> {
        body(&Answer { policy: state.policy_text(&self.arn)? })
    }
}
