//! Whether what was applied still holds, and how the checks stand, for whoever watches: as text and for Prometheus.

use super::apply::{Now, look};
use super::check::Outcome;
use super::hands::Hands;
use super::journal::{Journal, What};
use super::root::brief;
use std::collections::BTreeSet;

/// What of the applied changes holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Changes that were applied and not put back.
    pub applied: usize,
    /// (path, what it is instead) of those that no longer hold.
    pub drifted: Vec<(String, String)>,
    pub notes: Vec<String>,
}

/// Compares the host with what the journal in `directory` says was applied. Nothing is written.
pub fn drift(hands: &mut dyn Hands, directory: &str) -> Result<Drift, String> {
    let mut drift = Drift::default();
    let Some((changes, damage)) = Journal::peek(hands, directory)? else {
        drift.notes.push(format!("nothing was applied: there is no journal in {directory}"));
        return Ok(drift);
    };
    drift.notes.extend(damage);
    // A path that was changed again holds what the last change gave it. What changes by itself was not applied.
    let mut seen = BTreeSet::new();
    let made = changes.iter().rev().filter(|change| !matches!(change.what, What::Beside { .. }));
    for change in made.filter(|change| seen.insert(change.path.clone())) {
        let wanted = match &change.what {
            What::Value { new, .. } => format!("{} was set", brief(new.trim())),
            _ => "it was made".to_string(),
        };
        drift.applied += 1;
        match look(hands, &change.path, &change.what) {
            Ok(Now::After) => {}
            Ok(Now::Before) => {
                drift.drifted.push((change.path.clone(), format!("it is as before it was applied; {wanted}")));
            }
            Ok(Now::Foreign(is)) => drift.drifted.push((change.path.clone(), format!("{is}; {wanted}"))),
            // Devices go, and interrupts get other numbers.
            Ok(Now::Gone(why)) => drift.notes.push(format!("{}: {why}", change.path)),
            Err(error) => drift.drifted.push((change.path.clone(), format!("{error}; {wanted}"))),
        }
    }
    Ok(drift)
}

/// For a person.
pub fn text(drift: &Drift) -> String {
    let mut out = String::new();
    drift.notes.iter().for_each(|note| out += &format!("note: {note}\n"));
    drift.drifted.iter().for_each(|(path, is)| out += &format!("drifted: {path}: {is}\n"));
    out + &format!("{} of {} changes have drifted\n", drift.drifted.len(), drift.applied)
}

/// For Prometheus, as a file that node_exporter's textfile collector takes.
pub fn metrics(drift: &Drift, outcomes: &[Outcome]) -> String {
    let mut out = gauge("penstock_tune_applied", "Changes of penstock tune that were applied and not put back.");
    out += &format!("penstock_tune_applied {}\n", drift.applied);
    out += &gauge("penstock_tune_drifted", "Changes of penstock tune that no longer hold.");
    out += &format!("penstock_tune_drifted {}\n", drift.drifted.len());
    out += &gauge("penstock_tune_drift", "1 for each file that no longer holds what was applied.");
    for (path, _) in &drift.drifted {
        out += &format!("penstock_tune_drift{{path=\"{}\"}} 1\n", label(path));
    }
    out += &gauge("penstock_tune_check", "1 for each check of penstock tune, with its status.");
    for outcome in outcomes {
        let (id, status) = (outcome.check.id, outcome.status.name());
        out += &format!("penstock_tune_check{{check=\"{id}\",status=\"{status}\"}} 1\n");
    }
    out
}

fn gauge(name: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} gauge\n")
}

fn label(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
