//! What would be changed on a host: values of the kernel that differ from what checks want, the files that make them last, and what is left
//! to a person. Nothing is written.

use super::beside::{self, Beside};
use super::check::{self, Host, Status};
use super::drivers::Place;
use super::hands::{Entry, Hands};
use super::lasting::{self, Change, Refused};
use super::mend::{self, Knob, Lasts, Later};
use std::collections::BTreeSet;

/// Which checks are mended.
#[derive(Debug, Default, Clone)]
pub struct Choice {
    /// No others, if there are any.
    pub only: Vec<String>,
    /// These as well, though they weigh little or cost much.
    pub with: Vec<String>,
    /// These not.
    pub without: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub values: Vec<Value>,
    /// What holds later, beside what makes values last.
    pub later: Vec<Later>,
    pub left: Vec<Left>,
}

/// A value to change.
#[derive(Debug)]
pub struct Value {
    pub check: &'static str,
    pub knob: Knob,
    pub old: String,
    /// What the kernel may change by itself with it.
    pub beside: Vec<Beside>,
}

/// What is left to a person.
#[derive(Debug)]
pub struct Left {
    pub check: &'static str,
    pub why: String,
    /// What the check advises.
    pub advice: &'static str,
}

impl Choice {
    fn names(&self, id: &str) -> bool {
        self.only.iter().chain(&self.with).any(|named| named == id)
    }

    fn takes(&self, id: &str, status: Status) -> bool {
        let bad = matches!(status, Status::Warn | Status::Fail) || status == Status::Info && self.names(id);
        let among = self.only.is_empty() || self.names(id);
        bad && among && !self.without.iter().any(|named| named == id)
    }

    /// Names that no check has.
    pub fn strange(&self) -> Vec<&str> {
        let all = self.only.iter().chain(&self.with).chain(&self.without);
        all.map(String::as_str).filter(|id| check::all().all(|check| check.id != *id)).collect()
    }
}

/// What is to be done to `host`.
pub fn plan(host: &Host, hands: &mut dyn Hands, choice: &Choice) -> Plan {
    let mut plan = Plan::default();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for outcome in check::run(host).iter().filter(|outcome| choice.takes(outcome.check.id, outcome.status)) {
        let (id, advice) = (outcome.check.id, outcome.check.mend);
        let mend = mend::mend(id, host, choice.names(id));
        let mut left: Vec<String> = mend.left;
        for knob in mend.knobs.into_iter().filter(|knob| seen.insert(knob.path.clone())) {
            match hands.entry(&knob.path) {
                Ok(Entry::File { text, .. }) if knob.form.same(&text, &knob.value) => {}
                Ok(Entry::File { text, .. }) if text.chars().any(|c| c.is_control() && !"\n\t".contains(c)) => {
                    left.push(format!("{} holds no text", knob.path));
                }
                Ok(Entry::File { text, .. }) => {
                    let beside = beside::of(host, &knob.path);
                    plan.values.push(Value { check: id, knob, old: text, beside });
                }
                Ok(Entry::Absent) => left.push(format!("{} is not there", knob.path)),
                Ok(_) => left.push(format!("{} is no file", knob.path)),
                Err(error) => left.push(format!("{}: {error}", knob.path)),
            }
        }
        // Two checks of one thing have one reason.
        left.retain(|why| plan.left.iter().all(|told| told.why != *why || told.advice != advice));
        plan.left.extend(left.into_iter().map(|why| Left { check: id, why, advice }));
        for later in mend.later {
            if !plan.later.contains(&later) {
                plan.later.push(later);
            }
        }
    }
    // Drivers make their queues anew, and would undo what was set of a queue before.
    plan.values.sort_by_key(|value| Place::of(&value.knob.path).is_none());
    plan
}

impl Plan {
    /// Only values that can be set now, and nothing that makes them last.
    pub fn for_a_moment(mut self) -> Plan {
        self.values.iter_mut().for_each(|value| value.knob.lasts = Lasts::Never);
        self.later.clear();
        self
    }

    /// Changes that make it last, if every value can be set; and why some cannot be made.
    pub fn lasting(&self, hands: &mut dyn Hands) -> (Vec<Change>, Vec<Refused>) {
        let knobs: Vec<Knob> = self.values.iter().map(|value| value.knob.clone()).collect();
        lasting::changes(hands, &knobs, &self.later)
    }
}
