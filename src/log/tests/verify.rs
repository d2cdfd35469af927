//! Segments that change under the log, as the verifier sees them.

use super::*;
use crate::io::op::Errno;
use crate::io::scrub::{Report, Segment};
use crate::log::footer::read_footer;
use crate::log::format::{CommitHeader, HEADER, Trailer, header_at};
use crate::log::index::RUN_SIZE;
use crate::log::verify::Verifier;
use std::collections::BTreeMap;

/// A log with several sealed segments and one that is being written, the last one; of commits of one to four blocks with frames of several shards.
fn written() -> (Rig, Vec<Segment>) {
    let mut rig = Rig::new(false);
    rig.boot();
    for round in 0..60u32 {
        rig.append(round % 3, 1 + round % 4, 300 + 90 * (round as usize % 17));
        rig.append((round + 1) % 3, 1, 40);
        if round % 2 == 0 {
            rig.settle();
        }
    }
    rig.settle();
    let segments: Vec<Segment> = rig.log.durable_after(0).collect();
    let (active, sealed) = segments.split_last().expect("something is written");
    assert!(sealed.len() >= 2 && sealed.iter().all(|segment| segment.footer) && !active.footer, "{segments:?}");
    (rig, segments)
}

fn verify(segment: Segment, chunk: u32, bytes: &[u8]) -> Report {
    let mut verifier = Verifier::new(segment, chunk);
    while let Some((at, len)) = verifier.wants() {
        assert!(len > 0 && len <= chunk && (at as u32).is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK));
        verifier.read(&bytes[at as usize..at as usize + len as usize]);
    }
    verifier.report()
}

/// Bytes of a sound segment that a checksum covers: headers, bodies, footer, trailer. The rest is padding, or not durable yet.
fn covered(segment: &Segment, bytes: &[u8]) -> Vec<bool> {
    let mut covered = vec![false; bytes.len()];
    let mut at = 0;
    while at < segment.end as usize {
        let header = CommitHeader::peek(header_at(bytes, at).unwrap()).unwrap();
        let commit = &bytes[at..at + header.bytes as usize];
        covered[at..at + HEADER].fill(true);
        for frame in header.frames(commit) {
            let (place, frame) = frame.unwrap();
            covered[at + place..at + place + HEADER + frame.body as usize].fill(true);
        }
        at += header.bytes as usize;
    }
    if !segment.footer {
        return covered;
    }
    let trailer = Trailer::decode(header_at(bytes, bytes.len() - HEADER).unwrap()).unwrap();
    let footer = trailer.start as usize..(trailer.start + trailer.length) as usize;
    let (summary, _) = read_footer(&bytes[footer.clone()], &trailer).unwrap();
    covered[footer].fill(true);
    covered[summary.runs_from as usize..][..summary.runs as usize * RUN_SIZE].fill(true);
    covered[bytes.len() - HEADER..].fill(true);
    covered
}

#[test]
fn what_is_sound_gives_no_finding_in_whatever_pieces_it_is_read() {
    let (rig, segments) = written();
    for segment in segments {
        let bytes = &rig.disk.files[&segment.file()].bytes;
        for chunk in [BLOCK, 3 * BLOCK, SEGMENT as u32] {
            let report = verify(segment, chunk, bytes);
            assert_eq!((report.findings, report.untold), (vec![], 0));
            let more = report.bytes.checked_sub(segment.end as u64);
            assert!(
                more.is_some_and(|footer| (footer > 0) == segment.footer),
                "commits and footer are read: {}",
                report.bytes
            );
        }
    }
}

#[test]
fn every_flipped_bit_that_a_checksum_covers_is_found_and_no_other() {
    let (rig, segments) = written();
    for segment in [segments[1], *segments.last().unwrap()] {
        check_flips(segment, &rig.disk.files[&segment.file()].bytes);
    }
}

fn check_flips(segment: Segment, sound: &[u8]) {
    let covered = covered(&segment, sound);
    let mut bytes = sound.to_vec();
    let (mut found, mut padding) = (0, 0);
    for at in (0..bytes.len()).step_by(5).chain(bytes.len() - HEADER..bytes.len()) {
        bytes[at] ^= 1 << (at % 8);
        let report = verify(segment, 2 * BLOCK, &bytes);
        bytes[at] = sound[at];
        let within = report.findings.iter().any(|f| f.at <= at as u64 && (at as u64) < f.at + f.bytes);
        assert_eq!(within, covered[at], "byte {at}: {:?}", report.findings);
        assert_eq!(report.findings.len(), within as usize, "byte {at}: {:?}", report.findings);
        (found, padding) = (found + within as u32, padding + !within as u32);
    }
    assert!(found > 1_000 && padding > 100, "{found} and {padding}");
}

#[test]
fn damage_ends_at_the_next_commit_and_each_place_is_a_finding_of_its_own() {
    let (rig, segments) = written();
    let segment = segments[0];
    let sound = &rig.disk.files[&segment.file()].bytes;
    let mut starts = vec![0];
    while starts.last().is_some_and(|at| *at < segment.end as usize) {
        let at = *starts.last().unwrap();
        starts.push(at + CommitHeader::peek(header_at(sound, at).unwrap()).unwrap().bytes as usize);
    }
    // A commit in the middle is gone, another one has another commit in its place.
    let mut bytes = sound.clone();
    bytes[starts[1]..starts[2]].fill(0);
    bytes.copy_within(starts[5]..starts[5] + BLOCK as usize, starts[3]);
    let places: Vec<(u64, u64)> =
        verify(segment, BLOCK, &bytes).findings.into_iter().map(|finding| (finding.at, finding.bytes)).collect();
    let place = |n: usize| (starts[n] as u64, (starts[n + 1] - starts[n]) as u64);
    assert_eq!(places, [place(1), place(3)]);
    // A whole commit of the right place that was made for another chain.
    let (at, end) = (starts[4], starts[5]);
    let mut bytes = sound.clone();
    let mut header = CommitHeader::peek(header_at(&bytes, at).unwrap()).unwrap();
    header.previous ^= 1;
    header.seal(&mut bytes[at..end]);
    let report = verify(segment, BLOCK, &bytes);
    // It does not follow the one before, and the next does not follow it.
    assert_eq!(report.findings.iter().map(|f| f.at).collect::<Vec<_>>(), [at as u64, end as u64]);
}

#[test]
fn what_cannot_be_read_is_a_finding_and_the_rest_is_verified() {
    let (rig, segments) = written();
    let segment = segments[0];
    let bytes = &rig.disk.files[&segment.file()].bytes;
    let mut verifier = Verifier::new(segment, BLOCK);
    let bad = 3 * BLOCK as u64;
    while let Some((at, len)) = verifier.wants() {
        match at == bad {
            true => verifier.unreadable(Errno(5)),
            false => verifier.read(&bytes[at as usize..][..len as usize]),
        }
    }
    let report = verifier.report();
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert!(finding.at <= bad && bad < finding.at + finding.bytes, "{finding:?}");
    assert!(finding.why.contains("Input/output error"), "{finding:?}");
    // A file that is cut short, and one that is full of another incarnation's commits: bounded, and over.
    let mut short = Verifier::new(segment, 4 * BLOCK);
    while short.wants().is_some() {
        short.read(&[]);
    }
    assert!(!short.report().findings.is_empty());
    let other = Segment { incarnation: segment.incarnation + 8, ..segment };
    let report = verify(other, BLOCK, bytes);
    assert_eq!(report.findings[0].at, 0);
    assert!(report.findings.len() <= 16);
}

#[test]
fn of_each_segment_what_is_durable_is_listed_and_sound_also_while_it_is_written() {
    for flush in [false, true] {
        let mut rig = Rig::new(flush);
        rig.boot();
        assert_eq!(rig.log.durable_after(0).count(), 0);
        let mut parts = BTreeMap::new();
        for round in 0..60 {
            rig.append(round % 3, 1 + round % 4, 700);
            rig.end_turn();
            for part in rig.log.durable_after(0) {
                let end = Position(part.incarnation as u64 * SEGMENT + part.end as u64);
                assert!(end <= rig.log.durable() && part.end > 0);
                let before = parts.insert(part.incarnation, part.end).unwrap_or(0);
                assert!(before <= part.end, "what is durable stays so: {part:?}");
                let report = verify(part, 4 * BLOCK, &rig.disk.files[&part.file()].bytes);
                assert_eq!((report.findings, report.untold), (vec![], 0), "{part:?}");
            }
            if round % 7 == 6 {
                rig.settle();
            }
        }
        rig.settle();
        let all: Vec<Segment> = rig.log.durable_after(0).collect();
        assert_eq!(all.len() as u32, rig.log.segments());
        assert!(all.is_sorted_by_key(|segment| segment.incarnation));
        let last = all.last().unwrap();
        assert_eq!(Position(last.incarnation as u64 * SEGMENT + last.end as u64), rig.log.durable(), "to the very end");
        assert_eq!(rig.log.durable_after(all[0].incarnation).count(), all.len() - 1);
        assert_eq!(rig.log.durable_of(all[1].incarnation), Some(all[1]));
        assert_eq!(rig.log.durable_of(last.incarnation + 1), None);
    }
}
