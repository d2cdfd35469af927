//! The first use of a unit: what its halves say of themselves decides which can be believed, before anything else of it is read.

use super::mark::{Found, Mark};
use super::news::News;
use super::tops::Tops;
use super::unit::{Half, Name, Phase, Unit};
use super::{Mirror, copy};
use crate::io::buffers::Buffers;
use crate::io::op::{DirName, Errno, FileName, OpenHow};
use crate::log::steps::Step;
use std::collections::BTreeSet;

const ENOENT: Errno = Errno(2);

/// What is known of a half.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Why it cannot be read at all.
    unreachable: Option<Errno>,
    mark: Option<Mark>,
    /// Its mark cannot be used.
    unusable: Option<String>,
    /// Its files but the mark, with their sizes.
    pub files: Vec<(FileName, u64)>,
}

impl Seen {
    /// Whether it holds something to be served.
    fn has_content(&self) -> bool {
        let counts = |file: &FileName| !matches!(file, FileName::IdentityDraft { .. } | FileName::Preparing { .. });
        self.files.iter().any(|(file, _)| counts(file))
    }

    pub fn size(&self, file: FileName) -> Option<u64> {
        self.files.iter().find(|(other, _)| *other == file).map(|(_, size)| *size)
    }
}

/// What is to be done with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing is there yet.
    New,
    /// Both are whole; what a crash has left different is made equal.
    Both,
    /// `from` is whole, the other is copied from it.
    Rebuild {
        from: usize,
    },
    Alone {
        half: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Mark,
    List,
    ListCatalog,
    /// The half that is rebuilt says that nothing in it counts, and loses what it holds.
    Void,
    Files,
    Seal,
    Over,
}

pub(super) struct Opening {
    unit: usize,
    stage: Stage,
    pub seen: [Seen; 2],
    plan: Plan,
    tops: Option<Tops>,
}

impl Mirror {
    pub(super) fn begin_opening(&mut self, number: usize, buffers: &mut Buffers) {
        let unit = &self.units[number];
        let (file, limit) = (unit.name.mark(), 2 * unit.block as u64);
        for script in &mut self.scripts {
            let steps = [Step::Open { file, how: OpenHow::Existing }, Step::Read { file, limit }];
            script.run(steps, buffers, &mut self.out);
        }
        let seen = [Seen::default(), Seen::default()];
        self.opening = Some(Opening { unit: number, stage: Stage::Mark, seen, plan: Plan::New, tops: None });
    }

    /// Both scripts are free: the next stage. `false`: it waits for something else.
    pub(super) fn open_on(&mut self, number: usize, buffers: &mut Buffers) -> bool {
        let mut opening = self.opening.take().expect("a unit is being opened");
        debug_assert_eq!(opening.unit, number);
        let went = self.opening_stage(&mut opening, buffers);
        match opening.stage {
            Stage::Over if self.units[number].phase == Phase::Open => self.job = None,
            _ => self.opening = Some(opening),
        }
        went
    }

    fn opening_stage(&mut self, opening: &mut Opening, buffers: &mut Buffers) -> bool {
        match opening.stage {
            Stage::Mark => {
                self.marks_read(opening);
                let dir = match self.units[opening.unit].name {
                    Name::Top(0) => DirName::Top,
                    Name::Top(given) => DirName::Given(given),
                    Name::Log(log) => DirName::Log(log),
                };
                self.list(opening, dir, buffers);
                opening.stage = Stage::List;
            }
            Stage::List => {
                self.listed_half(opening);
                if self.units[opening.unit].name == Name::Top(0) {
                    self.list(opening, DirName::Catalog, buffers);
                }
                opening.stage = Stage::ListCatalog;
            }
            Stage::ListCatalog => {
                if self.units[opening.unit].name == Name::Top(0) {
                    self.listed_half(opening);
                }
                match self.decide(opening) {
                    Ok(plan) => self.begin_plan(opening, plan, buffers),
                    Err(why) => {
                        opening.stage = Stage::Over;
                        self.news.push_back(News::Refused { why });
                        return false;
                    }
                }
            }
            Stage::Void => {
                for half in 0..2 {
                    if let Some((step, errno)) = self.scripts[half].failed.take() {
                        self.fail_half(opening.unit, half, step.to_string(), errno);
                    }
                }
                self.begin_files(opening);
            }
            Stage::Files => return self.files_on(opening, buffers),
            Stage::Seal => return self.sealed(opening, buffers),
            Stage::Over => return false,
        }
        true
    }

    fn marks_read(&mut self, opening: &mut Opening) {
        let unit = &mut self.units[opening.unit];
        for (half, script) in self.scripts.iter_mut().enumerate() {
            let seen = &mut opening.seen[half];
            match script.failed.take() {
                Some((Step::Open { .. }, ENOENT)) => {}
                Some((_, errno)) => seen.unreachable = Some(errno),
                None => {
                    unit.mark_open[half] = true;
                    match Mark::newest(&script.take_read(), unit.block) {
                        Found::Mark(mark) => seen.mark = Some(mark),
                        Found::Unwritten => {}
                        Found::Unusable(why) => seen.unusable = Some(why),
                    }
                }
            }
        }
    }

    fn list(&mut self, opening: &Opening, dir: DirName, buffers: &mut Buffers) {
        for (half, script) in self.scripts.iter_mut().enumerate() {
            script.listed.clear();
            if opening.seen[half].unreachable.is_none() {
                script.run([Step::List(dir)], buffers, &mut self.out);
            }
        }
    }

    fn listed_half(&mut self, opening: &mut Opening) {
        for (seen, script) in opening.seen.iter_mut().zip(&mut self.scripts) {
            if let Some((_, errno)) = script.failed.take() {
                seen.unreachable = Some(errno);
            }
            let is_content = |file: &FileName| !matches!(file, FileName::Mark { .. } | FileName::LogMark { .. });
            seen.files.extend(script.listed.drain(..).filter(|(file, _)| is_content(file)));
        }
    }

    /// What the halves say, taken together; the error ends the start.
    fn decide(&self, opening: &Opening) -> Result<Plan, String> {
        let unit = &self.units[opening.unit];
        let paths = &self.settings.paths[unit.given as usize];
        let [a, b] = &opening.seen;
        for (seen, path) in opening.seen.iter().zip(paths) {
            if let Some(why) = &seen.unusable {
                return Err(format!(
                    "{}: the mark of the mirror in {path} cannot be used ({why}): nothing was touched; take that half away, and start with \
                     --accept-degraded",
                    unit.name
                ));
            }
        }
        match (a.unreachable, b.unreachable) {
            (None, None) => self.decide_both(unit, a, b),
            (Some(errno), None) => self.decide_one(unit, b, 1, errno),
            (None, Some(errno)) => self.decide_one(unit, a, 0, errno),
            (Some(errno), Some(_)) => {
                Err(format!("{}: neither {} nor {} can be read ({errno})", unit.name, paths[0], paths[1]))
            }
        }
    }

    fn decide_both(&self, unit: &Unit, a: &Seen, b: &Seen) -> Result<Plan, String> {
        let paths = &self.settings.paths[unit.given as usize];
        let accepts = self.settings.accept_degraded;
        let content = [a.has_content(), b.has_content()];
        match (&a.mark, &b.mark) {
            (Some(first), Some(second)) if first.id != second.id => Err(format!(
                "{}: {} and {} are not halves of one mirror: nothing was touched; name those that belong together",
                unit.name, paths[0], paths[1]
            )),
            (Some(first), Some(second)) if first.generation == second.generation => match first.alone || second.alone {
                true => Err(format!(
                    "{}: {} and {} have each gone on without the other: nothing was touched; look at both, empty the one that is not wanted, \
                     and start with --accept-degraded",
                    unit.name, paths[0], paths[1]
                )),
                false if first.generation == 0 => Err(format!("{}: neither half is whole", unit.name)),
                false => Ok(Plan::Both),
            },
            (Some(first), Some(second)) => {
                Ok(Plan::Rebuild { from: usize::from(second.generation > first.generation) })
            }
            _ if content == [false; 2] => Ok(Plan::New),
            (None, None) if content == [true; 2] => Err(format!(
                "{}: both {} and {} hold something, and neither says that it is half of a mirror: nothing was touched; a mirror is added \
                 as an empty directory",
                unit.name, paths[0], paths[1]
            )),
            (None, None) => Ok(Plan::Rebuild { from: usize::from(content[1]) }),
            (Some(mark), None) | (None, Some(mark)) => {
                let marked = usize::from(b.mark.is_some());
                let bare = 1 - marked;
                match content[bare] {
                    // Its adoption did not come to its end: the other one was made void first.
                    true if mark.generation == 0 => Ok(Plan::Rebuild { from: bare }),
                    true => Err(format!(
                        "{}: {} holds something that is not of this mirror: nothing was touched; a half is replaced by an empty directory",
                        unit.name, paths[bare]
                    )),
                    false if mark.generation == 0 => Err(format!("{}: neither half is whole", unit.name)),
                    false if accepts => Ok(Plan::Rebuild { from: marked }),
                    false => Err(format!(
                        "{}: {} is empty, and should be the other half of {}: nothing was touched; if its drive is not mounted, mount it; if \
                         it was replaced, start with --accept-degraded, and it is rebuilt",
                        unit.name, paths[bare], paths[marked]
                    )),
                }
            }
        }
    }

    fn decide_one(&self, unit: &Unit, seen: &Seen, half: usize, errno: Errno) -> Result<Plan, String> {
        let paths = &self.settings.paths[unit.given as usize];
        let other = &paths[1 - half];
        match &seen.mark {
            Some(mark) if mark.generation == 0 => Err(format!(
                "{}: {other} cannot be read ({errno}), and {} was being rebuilt from it and is not whole: nothing was touched",
                unit.name, paths[half]
            )),
            Some(mark) if mark.alone || self.settings.accept_degraded => Ok(Plan::Alone { half }),
            Some(_) => Err(format!(
                "{}: {other} cannot be read ({errno}), and may hold what {} has missed: nothing was touched; bring it back, or start with \
                 --accept-degraded to go on without it",
                unit.name, paths[half]
            )),
            None if self.settings.accept_degraded => Ok(Plan::Alone { half }),
            None => Err(format!(
                "{}: {other} cannot be read ({errno}), and {} does not say that it can be believed: nothing was touched; bring it back, or \
                 start with --accept-degraded to go on without it",
                unit.name, paths[half]
            )),
        }
    }

    fn begin_plan(&mut self, opening: &mut Opening, plan: Plan, buffers: &mut Buffers) {
        let number = opening.unit;
        let made = match self.units[number].name {
            Name::Top(given) => self.settings.random.wrapping_add(given as u64).max(1),
            Name::Log(_) => self.directory,
        };
        let marks = || opening.seen.iter().filter_map(|seen| seen.mark.as_ref());
        let mut mark =
            marks().max_by_key(|mark| mark.generation).cloned().unwrap_or(Mark { id: made, ..Mark::default() });
        mark.serial = marks().map(|mark| mark.serial).max().unwrap_or(0);
        let unit = &mut self.units[number];
        // What a levelling has to look at.
        mark.files = marks().flat_map(|mark| mark.files.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect();
        unit.mark = mark;
        opening.plan = plan;
        opening.stage = Stage::Void;
        unit.halves = match plan {
            Plan::New | Plan::Both => [Half::In; 2],
            Plan::Rebuild { from } => [0, 1].map(|half| if half == from { Half::In } else { Half::Copying }),
            Plan::Alone { half: whole } => [0, 1].map(|half| if half == whole { Half::In } else { Half::Out }),
        };
        for half in 0..2 {
            let steps = self.first_steps(opening, half);
            self.scripts[half].run(steps, buffers, &mut self.out);
        }
        if let Plan::Rebuild { from } = plan {
            let path = self.path(number, 1 - from);
            let files = opening.seen[from].files.len();
            self.news.push_back(News::Rebuilding { unit: self.units[number].name, path, files });
        }
        if let Plan::Alone { half } = plan {
            let (path, missing) = (self.path(number, half), self.path(number, 1 - half));
            let why =
                opening.seen[1 - half].unreachable.map_or(String::new(), |errno| format!("cannot be read ({errno})"));
            self.news.push_back(News::Alone { unit: self.units[number].name, path, missing, why });
        }
    }

    /// Directories are made; and what is to be copied over says so first, and then goes.
    fn first_steps(&mut self, opening: &Opening, half: usize) -> Vec<Step> {
        let unit = &mut self.units[opening.unit];
        let mut steps = Vec::new();
        let is_target = unit.halves[half] == Half::Copying;
        if opening.plan == Plan::New || is_target || opening.plan == (Plan::Alone { half }) {
            match unit.name {
                Name::Log(log) => {
                    steps.extend([Step::MakeDir(DirName::Log(log)), Step::SyncDir(DirName::Above(log))]);
                }
                Name::Top(0) if is_target => {
                    steps.extend([Step::MakeDir(DirName::Catalog), Step::SyncDir(DirName::Top)]);
                }
                Name::Top(_) => {}
            }
        }
        if is_target {
            let mark = Mark { serial: unit.mark.serial + 1, generation: 0, files: Vec::new(), ..unit.mark.clone() };
            steps.extend(unit.mark_steps(half, &mark));
            steps.extend(opening.seen[half].files.iter().map(|(file, _)| Step::Unlink(*file)));
            let dirs: BTreeSet<_> = opening.seen[half].files.iter().map(|(file, _)| file.dir()).collect();
            steps.extend(dirs.into_iter().map(Step::SyncDir));
        }
        if unit.halves[half] == Half::In && matches!(unit.name, Name::Log(_)) {
            steps.extend(leftovers(opening, &unit.mark.files, half).into_iter().map(Step::Unlink));
        }
        steps
    }

    fn begin_files(&mut self, opening: &mut Opening) {
        opening.stage = Stage::Files;
        let unit = &self.units[opening.unit];
        match (unit.name, opening.plan) {
            (Name::Top(_), Plan::Both) => opening.tops = Some(Tops::level(opening)),
            (Name::Top(_), Plan::Rebuild { from }) if unit.target().is_some() => {
                opening.tops = Some(Tops::copy(opening, from));
            }
            (Name::Log(_), Plan::Both) => self.level_segments(opening),
            _ => {}
        }
    }

    /// What may differ between the segment files of two whole halves: content of those that the mark names. Others are there on both, in the
    /// same size, unless one half has lost something.
    fn level_segments(&mut self, opening: &Opening) {
        let (number, unit) = (opening.unit, &mut self.units[opening.unit]);
        let files: BTreeSet<FileName> =
            opening.seen.iter().flat_map(|seen| &seen.files).map(|(file, _)| *file).collect();
        for file in files {
            let FileName::Segment { index, .. } = file else { continue };
            let is_named = unit.mark.files.contains(&index);
            match [0, 1].map(|half| opening.seen[half].size(file)) {
                [Some(first), Some(second)] if is_named || first != second => {
                    unit.levelled.insert(index);
                    self.copier.add(copy::Task::level_sizes(number, file, [first, second]));
                }
                [Some(size), None] if !is_named => self.copier.add(copy::Task::copy(number, file, size, 0)),
                [None, Some(size)] if !is_named => self.copier.add(copy::Task::copy(number, file, size, 1)),
                // What the mark names and one half only has was about to be made, or to go.
                _ => {}
            }
        }
    }

    fn files_on(&mut self, opening: &mut Opening, buffers: &mut Buffers) -> bool {
        let number = opening.unit;
        if let Some(tops) = &mut opening.tops {
            match tops.go_on(&mut self.scripts, self.units[number].halves, buffers, &mut self.out) {
                Ok(true) => return true,
                Ok(false) => {
                    if let Some(from) = self.units[number].survivor().filter(|_| self.units[number].target().is_some())
                    {
                        // Small files: it is whole at once.
                        let path = self.path(number, 1 - from);
                        let bytes = opening.seen[from].files.iter().map(|(_, size)| size).sum();
                        let unit = &mut self.units[number];
                        unit.halves = [Half::In; 2];
                        self.news.push_back(News::Rebuilt { unit: unit.name, path, bytes });
                    }
                    opening.tops = None;
                }
                Err((half, step, errno)) => {
                    if self.units[number].halves[1 - half] != Half::In {
                        return self.refuse_opening(opening, half, &step, errno);
                    }
                    self.fail_half(number, half, step, errno);
                    opening.tops = None;
                }
            }
        }
        if self.copier.is_at(number) {
            return false;
        }
        self.begin_seal(opening, buffers);
        true
    }

    /// Marks that say what has become true.
    fn begin_seal(&mut self, opening: &mut Opening, buffers: &mut Buffers) {
        opening.stage = Stage::Seal;
        let unit = &mut self.units[opening.unit];
        let both = unit.are_both_in();
        let changed = match opening.plan {
            _ if unit.unsaid => true,
            Plan::New => {
                unit.mark.generation += 1;
                true
            }
            Plan::Both => !unit.mark.files.is_empty(),
            Plan::Rebuild { .. } if both => {
                unit.mark.generation += 1;
                true
            }
            Plan::Rebuild { .. } | Plan::Alone { .. } => {
                let is_said = unit.mark.alone && unit.mark.generation > 0;
                unit.mark.generation += u64::from(!is_said);
                !is_said
            }
        };
        unit.mark.alone = !both;
        unit.mark.files.clear();
        if !changed {
            return;
        }
        let mark = unit.next_mark();
        let halves = unit.halves;
        for half in (0..2).filter(|half| halves[*half] == Half::In) {
            let steps = unit.mark_steps(half, &mark);
            self.scripts[half].run(steps, buffers, &mut self.out);
        }
    }

    fn sealed(&mut self, opening: &mut Opening, buffers: &mut Buffers) -> bool {
        let number = opening.unit;
        let failed = [0, 1].map(|half| self.scripts[half].failed.take());
        for (half, failed) in failed.into_iter().enumerate() {
            let Some((step, errno)) = failed else { continue };
            let unit = &mut self.units[number];
            unit.mark_open[half] = false;
            if unit.halves[1 - half] != Half::In {
                return self.refuse_opening(opening, half, &step.to_string(), errno);
            }
            self.fail_half(number, half, step.to_string(), errno);
            self.begin_seal(opening, buffers);
            return true;
        }
        opening.stage = Stage::Over;
        let unit = &mut self.units[number];
        (unit.phase, unit.unsaid, unit.mark_due) = (Phase::Open, false, false);
        if let (Plan::Rebuild { from }, Some(_)) = (opening.plan, unit.target()) {
            let is_segment = |(file, _): &&(FileName, u64)| matches!(file, FileName::Segment { .. });
            unit.to_copy = opening.seen[from].files.iter().filter(is_segment).copied().collect();
        }
        self.release(number);
        true
    }

    fn refuse_opening(&mut self, opening: &mut Opening, half: usize, what: &str, errno: Errno) -> bool {
        opening.stage = Stage::Over;
        let (unit, path) = (self.units[opening.unit].name, self.path(opening.unit, half));
        let why = format!("{unit}: {path}: {what}: {errno}, and the other half is not whole");
        self.news.push_back(News::Refused { why });
        false
    }
}

/// Files of a log that a crash has left on one half only, or in the making.
fn leftovers(opening: &Opening, named: &[u32], half: usize) -> Vec<FileName> {
    let other = &opening.seen[1 - half];
    let goes = |file: &FileName| match file {
        FileName::Preparing { .. } => true,
        FileName::Segment { index, .. } => {
            opening.plan == Plan::Both && named.contains(index) && other.size(*file).is_none()
        }
        _ => false,
    };
    opening.seen[half].files.iter().map(|(file, _)| *file).filter(goes).collect()
}
