//! Policies of AWS's IAM, as they are after reading: statements that allow or deny, and how they are weighed.

use super::ask::Ask;
use super::condition::Condition;
use super::glob::Glob;

/// A whole document. Nothing in it changes after it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

/// Its numbers are finite: each is equal to itself.
impl Eq for Policy {}

impl Policy {
    /// One that lets nobody do anything.
    pub fn deny_all() -> Policy {
        let everything = || Choice { inverted: true, globs: Vec::new() };
        let statement = Statement {
            denies: true,
            principals: None,
            actions: everything(),
            resources: everything(),
            conditions: Vec::new(),
        };
        Policy { statements: vec![statement] }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) denies: bool,
    /// Of resource policies only; an identity policy is about its own user.
    pub(super) principals: Option<Vec<Principal>>,
    pub(super) actions: Choice,
    pub(super) resources: Choice,
    pub(super) conditions: Vec<Condition>,
}

/// Any of the patterns (`Action`), or none of them (`NotAction`).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) inverted: bool,
    pub(super) globs: Vec<Glob>,
}

/// Whom a resource policy is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Principal {
    Anybody,
    /// The whole account: a denial holds for all of its users, a grant leaves it to their own policies, as in AWS.
    Account(String),
    /// The ARN of a user.
    User(String),
    /// A service, or whoever cannot be a user here.
    Nobody,
}

/// What came of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Nothing allows it.
    NotAllowed,
    /// A policy of the user forbids it, or one of the resource.
    DeniedByIdentity,
    DeniedByResource,
}

/// Weighs the policies of a user and of a resource in one account: who is denied anywhere is denied, else one that allows is enough.
pub fn judge(identity: &[Policy], resource: Option<&Policy>, ask: &Ask<'_>) -> Verdict {
    let applies = |denies: bool| move |statement: &&Statement| statement.denies == denies && statement.applies(ask);
    let own = || identity.iter().flat_map(|policy| &policy.statements);
    let others = || resource.into_iter().flat_map(|policy| &policy.statements);
    if own().any(|statement| applies(true)(&statement)) {
        return Verdict::DeniedByIdentity;
    }
    if others().any(|statement| applies(true)(&statement)) {
        return Verdict::DeniedByResource;
    }
    let allowed = own().chain(others()).any(|statement| applies(false)(&statement));
    if allowed { Verdict::Allowed } else { Verdict::NotAllowed }
}

impl Statement {
    fn applies(&self, ask: &Ask<'_>) -> bool {
        self.actions.matches(ask.action, ask)
            && self.resources.matches(ask.resource, ask)
            && self.is_about(ask)
            && self.conditions.iter().all(|condition| condition.holds(ask))
    }

    fn is_about(&self, ask: &Ask<'_>) -> bool {
        let Some(principals) = &self.principals else { return true };
        principals.iter().any(|principal| match principal {
            Principal::Anybody => true,
            Principal::Account(number) => self.denies && number == ask.account,
            Principal::User(arn) => arn == ask.principal,
            Principal::Nobody => false,
        })
    }
}

impl Choice {
    fn matches(&self, text: &str, ask: &Ask<'_>) -> bool {
        self.globs.iter().any(|glob| glob.matches(text, ask)) != self.inverted
    }
}
