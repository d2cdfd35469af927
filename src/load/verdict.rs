//! What a run is worth: one word, and the sentences that it follows from.

use super::ledger::Findings;
use super::plan::{Pace, Plan};
use super::tally::Tally;

/// Lag of the generator that spoils a run: this part of the response time, at the 99th percentile; unless it is as short as a timer's own error.
const LAG_PART: f64 = 0.05;
const LAG_FLOOR_NS: u64 = 100_000;
/// Part of its time that a thread may be busy before it is what is measured.
const BUSY_MAX: f64 = 0.9;
/// Part of the requests that may be left unsent, or refused for want of room.
const UNSENT_PART: f64 = 0.01;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The figures are the server's.
    Valid,
    /// More was asked for than the server did: latencies say how long the run was, not how fast the server is.
    Overloaded,
    /// The figures are the generator's.
    GeneratorBound,
    /// Something was lost, or more came back than was written, or nothing was stored at all.
    Invalid,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Valid => "VALID",
            Verdict::Overloaded => "OVERLOADED",
            Verdict::GeneratorBound => "GENERATOR-BOUND",
            Verdict::Invalid => "INVALID",
        }
    }
}

/// What is judged.
pub struct Evidence<'e> {
    pub plan: &'e Plan,
    pub total: &'e Tally,
    pub findings: &'e Findings,
    /// Of the busiest thread: the part of the run that it was not waiting.
    pub busy: f64,
    /// The run ended before its time.
    pub stopped: bool,
}

/// The verdict, and why; sentences for a VALID run too, where there is something to know.
pub fn judge(evidence: &Evidence<'_>) -> (Verdict, Vec<String>) {
    let Evidence { plan, total, findings, busy, stopped } = evidence;
    let (counts, mut why) = (&total.counts, Vec::new());
    if counts.unknown_records > 0 || counts.disconnects > 0 {
        why.push(format!(
            "connections ended {} times; of {} records nobody has said whether they are stored, {} were read back",
            counts.disconnects, counts.unknown_records, findings.unknown_stored
        ));
    }
    if findings.unverified > 0 {
        why.push(format!(
            "{} acknowledged records had been trimmed before they were read, or were not read in time",
            findings.unverified
        ));
    }
    if *stopped {
        why.push("it was stopped before its time".to_string());
    }
    let bad = invalid(evidence);
    let bound = generator_bound(plan, total, *busy);
    let overloaded = overloaded(plan, total);
    let verdict = match (bad.is_empty(), bound.is_empty(), overloaded.is_empty()) {
        (false, ..) => Verdict::Invalid,
        (_, false, _) => Verdict::GeneratorBound,
        (_, _, false) => Verdict::Overloaded,
        _ => Verdict::Valid,
    };
    // The reasons of the verdict first.
    (verdict, bad.into_iter().chain(bound).chain(overloaded).chain(why).collect())
}

fn invalid(evidence: &Evidence<'_>) -> Vec<String> {
    let Findings { lost, duplicated, reordered, damaged, stored_though_refused, verified, .. } = *evidence.findings;
    let told = [
        (lost, "acknowledged records are not there"),
        (duplicated, "records are there more than once"),
        (reordered, "records are not behind the one that they were written behind"),
        (damaged, "records are not what was written"),
        (stored_though_refused, "records are there though the server has refused them"),
    ];
    let mut why: Vec<String> =
        told.iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!("{count} {text}")).collect();
    if evidence.total.counts.acked_records == 0 {
        why.push("no record was acknowledged".to_string());
    } else if evidence.plan.is_verified() && verified == 0 {
        why.push("no record was read back".to_string());
    }
    why
}

fn generator_bound(plan: &Plan, total: &Tally, busy: f64) -> Vec<String> {
    let mut why = Vec::new();
    let (lag, response) = (total.lag.value_at_quantile(0.99), total.response.value_at_quantile(0.99));
    let open = matches!(plan.pace, Pace::Open { .. });
    if open && lag > LAG_FLOOR_NS && lag as f64 > response as f64 * LAG_PART {
        why.push(format!(
            "at the 99th percentile the generator sent {} µs late, of {} µs to the answer: give it more threads or a core of its own",
            lag / 1000,
            response / 1000
        ));
    }
    if busy > BUSY_MAX {
        let percent = busy * 100.0;
        why.push(format!("a thread of the generator was busy {percent:.0} % of the time: give it more threads"));
    }
    why
}

fn overloaded(plan: &Plan, total: &Tally) -> Vec<String> {
    let counts = &total.counts;
    let mut why = Vec::new();
    let unsent = counts.due.saturating_sub(counts.sent);
    if matches!(plan.pace, Pace::Open { .. }) && unsent as f64 > counts.due as f64 * UNSENT_PART {
        let percent = unsent as f64 / counts.due as f64 * 100.0;
        why.push(format!(
            "{unsent} requests ({percent:.1} %) were due and could not be sent before the end: the server was behind"
        ));
    }
    let all = counts.acked_records + counts.refused_records + counts.unknown_records;
    if counts.throttled_records as f64 > all as f64 * UNSENT_PART {
        why.push(format!("the server refused {} records for want of room or time", counts.throttled_records));
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan_tests::plan;
    use crate::load::tally::record;

    fn judged(change: impl Fn(&mut Tally, &mut Findings, &mut f64)) -> Verdict {
        let (plan, mut total) = (plan(), Tally::default());
        let (mut findings, mut busy) = (Findings { verified: 1000, ..Findings::default() }, 0.5);
        total.counts.due = 1000;
        total.counts.sent = 1000;
        total.counts.acked_records = 1000;
        for _ in 0..1000 {
            record(&mut total.response, 5_000_000);
            record(&mut total.lag, 10_000);
        }
        change(&mut total, &mut findings, &mut busy);
        let (verdict, why) = judge(&Evidence { plan: &plan, total: &total, findings: &findings, busy, stopped: false });
        assert_eq!(why.is_empty(), verdict == Verdict::Valid, "{why:?}");
        verdict
    }

    #[test]
    fn each_verdict_has_its_reason_and_a_loss_outweighs_all() {
        assert_eq!(judged(|_, _, _| ()), Verdict::Valid);
        assert_eq!(judged(|total, _, _| total.counts.sent = 980), Verdict::Overloaded);
        assert_eq!(judged(|total, _, _| total.counts.throttled_records = 100), Verdict::Overloaded);
        assert_eq!(judged(|_, _, busy| *busy = 0.95), Verdict::GeneratorBound);
        let late = |total: &mut Tally, _: &mut Findings, _: &mut f64| {
            (0..20).for_each(|_| record(&mut total.lag, 400_000));
            total.counts.sent = 500;
        };
        assert_eq!(judged(late), Verdict::GeneratorBound, "a backlog that the generator made is no overload");
        let lost = |total: &mut Tally, findings: &mut Findings, busy: &mut f64| {
            late(total, findings, busy);
            findings.lost = 1;
        };
        assert_eq!(judged(lost), Verdict::Invalid);
        assert_eq!(judged(|_, findings, _| findings.duplicated = 1), Verdict::Invalid);
        assert_eq!(judged(|_, findings, _| findings.reordered = 1), Verdict::Invalid);
        assert_eq!(judged(|_, findings, _| findings.verified = 0), Verdict::Invalid);
        assert_eq!(judged(|total, _, _| total.counts.acked_records = 0), Verdict::Invalid);
    }
}
