//! What the checks have found, as text and as JSON.

use super::check::{Outcome, Profile, Status, worst};
use serde_json::{Value, json};

/// The version of the JSON. Fields may be added to it; one that goes or changes its meaning makes it the next.
pub const SCHEMA: u32 = 1;

/// A line for each check, and for each that is not as it should be how to mend it.
pub fn text(profile: Profile, outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        let Outcome { check, status, found, wanted } = outcome;
        match status {
            Status::Ok | Status::Absent | Status::Unknown => {
                out += &format!("{:<8} {}: {found}\n", status.name(), check.id);
            }
            Status::Info | Status::Warn | Status::Fail => {
                out += &format!("{:<8} {}: {found}; wanted: {wanted}\n", status.name(), check.id);
                out += &format!("           why: {}\n          mend: {}\n", check.why, check.mend);
                out += &format!("          lasts by: {}; costs: {}\n", check.persist.name(), check.risk);
            }
        }
    }
    let count = |wanted: Status| outcomes.iter().filter(|outcome| outcome.status == wanted).count();
    let statuses = [Status::Fail, Status::Warn, Status::Unknown, Status::Info, Status::Absent, Status::Ok];
    let counts: Vec<String> = statuses.iter().map(|status| format!("{} {}", count(*status), status.name())).collect();
    out + &format!("{} checks for {}: {}\n", outcomes.len(), profile.name(), counts.join(", "))
}

/// For programs.
pub fn json(profile: Profile, outcomes: &[Outcome]) -> Value {
    let checks = outcomes.iter().map(|outcome| {
        json!({
            "id": outcome.check.id,
            "status": outcome.status.name(),
            "found": outcome.found,
            "wanted": outcome.wanted,
            "why": outcome.check.why,
            "mend": outcome.check.mend,
            "persist": outcome.check.persist.name(),
            "risk": outcome.check.risk,
        })
    });
    json!({
        "schema": SCHEMA,
        "profile": profile.name(),
        "worst": worst(outcomes).name(),
        "checks": checks.collect::<Vec<Value>>(),
    })
}
