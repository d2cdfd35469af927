//! Drives, and the file system of the data directory.

use super::super::facts::{FREE_BYTES, MEDIA_ERRORS, SPARE, SPARE_LEAST, SPARES, USED, WANTED_BYTES, WARNINGS};
use super::super::map::gib;
use super::super::root::{Root, Unknown};
use super::judge::{Seen, absent, each, files, listed, met, number, plain, unknown, unmet, verdict};
use super::{Check, FAIL, Finding, Host, INFO, Persist, Status, TAIL, WARN};
use std::collections::BTreeSet;

/// A request of this size costs hardly more than its bytes.
pub const REQUEST_KIB: i64 = 1024;
/// What a commit has at most.
pub const COMMIT_KIB: i64 = 12 << 10;
/// Vendors call what is above too hot for good; controllers slow down some ten degrees later.
const CELSIUS_MAX: i64 = 70;

pub const CHECKS: &[Check] = &[
    Check {
        id: "scheduler",
        severity: WARN,
        judge: |host| queues(host, "scheduler", "none", |value| value == "none"),
        why: "a fast drive orders its work itself; a scheduler costs time and changes the order of commits",
        mend: "echo none > /sys/block/DRIVE/queue/scheduler",
        persist: Persist::Udev,
        risk: "no fairness between programs on one drive",
    },
    Check {
        id: "merging",
        severity: INFO,
        judge: |host| queues(host, "nomerges", "2", |value| value == "2"),
        why: "a commit is one large write already, so looking for others to join it with is in vain",
        mend: "echo 2 > /sys/block/DRIVE/queue/nomerges",
        persist: Persist::Udev,
        risk: "many small writes of other programs are slower on SATA",
    },
    Check {
        id: "write-cache",
        severity: WARN,
        judge: |host| queues(host, "write_cache", "write through", |value| value == "write through"),
        why: "a drive whose cache does not survive a power loss must be flushed for each commit, which decides the time of an ack",
        mend: "take a drive with power-loss protection; never declare the cache safe where it is not",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "completion-core",
        severity: INFO,
        judge: |host| queues(host, "rq_affinity", "2", |value| value == "2"),
        why: "completions of several cores spread over these; where cores share a queue each is passed on by one interruption more",
        mend: "echo 2 > /sys/block/DRIVE/queue/rq_affinity, and see with prove whether it helps",
        persist: Persist::Udev,
        risk: "later acks where a drive has fewer queues than there are workers",
    },
    Check {
        id: "write-throttling",
        severity: TAIL,
        judge: |host| queues(host, "wbt_lat_usec", "0", |value| value == "0"),
        why: "the kernel holds writers back for the sake of readers",
        mend: "echo 0 > /sys/block/DRIVE/queue/wbt_lat_usec",
        persist: Persist::Udev,
        risk: "reads wait behind much write-back of other programs",
    },
    Check {
        id: "request-size",
        severity: [Status::Info, Status::Warn, Status::Info],
        judge: request_size,
        why: "a commit of many records is cut into that many requests, each with its own interrupt",
        mend: "echo 1024 > /sys/block/DRIVE/queue/max_sectors_kb, or max_hw_sectors_kb where that is less",
        persist: Persist::Udev,
        risk: "a small request may wait longer behind a large one",
    },
    Check {
        id: "request-queue",
        severity: [Status::Info, Status::Warn, Status::Info],
        judge: request_queue,
        why: "who submits a large commit waits until some of its requests are done, as the queue takes no more at once",
        mend: "echo N > /sys/block/DRIVE/queue/nr_requests, N the largest commit (12 MiB) over max_sectors_kb, or mq/0/nr_tags where that is less",
        persist: Persist::Udev,
        risk: "more requests of others before one's own",
    },
    Check {
        id: "physical-block",
        severity: WARN,
        judge: |host| {
            let small = |value: &str| value.parse::<u64>().is_ok_and(|bytes| bytes <= 4096);
            queues(host, "physical_block_size", "4096 or less", small)
        },
        why: "a commit that is not a multiple of the drive's block is read before it is written, and padded",
        mend: "nvme format with an LBA format of 4096 bytes, which erases the drive",
        persist: Persist::Hardware,
        risk: "erases the drive",
    },
    Check {
        id: "drive-state",
        severity: FAIL,
        judge: drive_state,
        why: "a controller that is not live answers nothing, or is about to",
        mend: "see the system log for what has happened to it",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "drive-temperature",
        severity: WARN,
        judge: temperature,
        why: "a drive that gets too hot slows down without a word, and wears faster",
        mend: "look after fans and air at its slot; smart-log of nvme-cli tells how long it has been too hot",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "drive-queues",
        severity: TAIL,
        judge: drive_queues,
        why: "workers that share a queue of a drive wait for its lock and its interrupt",
        mend: "look for a limit of the drive, or for nvme.write_queues and nvme.poll_queues at boot",
        persist: Persist::KernelCommandLine,
        risk: "none",
    },
    Check {
        id: "drive-interrupts",
        severity: TAIL,
        judge: drive_interrupts,
        why: "a completion that another core is interrupted for is passed on to the worker by one interruption more",
        mend: "look for cores that were offline when the driver started, or isolated; most drivers leave no choice but the kernel's",
        persist: Persist::KernelCommandLine,
        risk: "none",
    },
    Check {
        id: "poll-queues",
        severity: INFO,
        judge: |host| match host.root.exists("/sys/module/nvme") || !host.root.exists("/sys/module") {
            true => number(host, "/sys/module/nvme/parameters/poll_queues", "0", |queues| queues == 0),
            false => absent("no driver for NVMe", "0"),
        },
        why: "penstock waits for interrupts, and queues without them are fewer for it",
        mend: "boot without nvme.poll_queues, and take it out of /etc/modprobe.d",
        persist: Persist::KernelCommandLine,
        risk: "programs that poll get no queue",
    },
    Check {
        id: "trimming",
        severity: [Status::Info, Status::Warn, Status::Info],
        judge: trimming,
        why: "a drive that is never told what is free copies it to and fro, and slows down when it is full of it",
        mend: "systemctl enable --now fstrim.timer, at a time when nothing is measured",
        persist: Persist::Systemd,
        risk: "the drive is busy with it once a week",
    },
    Check {
        id: "drive-wear",
        severity: WARN,
        judge: wear,
        why: "a drive at the end of its life refuses writes, or loses what it has stored, on a day of its own choice",
        mend: "replace it while it can be read: nvme smart-log tells the whole of it; one half of a mirror at a time",
        persist: Persist::Hardware,
        risk: "none",
    },
    Check {
        id: "space",
        severity: WARN,
        judge: space,
        why: "a log that finds no room for its next segments goes on in those that it has, and then refuses or trims",
        mend: "find what else is in this file system (du -x), or serve with a smaller --disk; what the catalog lacks it makes when there is room",
        persist: Persist::Nothing,
        risk: "none",
    },
    Check {
        id: "file-system",
        severity: WARN,
        judge: |host| match mount(host) {
            Ok(mount) => verdict(["xfs", "ext4"].contains(&mount.kind.as_str()), mount.kind, "xfs or ext4"),
            Err(why) => unknown(why, "xfs or ext4"),
        },
        why: "direct writes into space that is there already are known to be asynchronous and durable on these",
        mend: "make an xfs for the data directory: mkfs.xfs -s size=4096",
        persist: Persist::FileSystem,
        risk: "erases the file system",
    },
    Check {
        id: "barriers",
        severity: FAIL,
        judge: |host| without(host, &["nobarrier", "barrier=0"]),
        why: "without barriers a flush is not passed on to the drive: what was acknowledged may be lost",
        mend: "mount without nobarrier and barrier=0",
        persist: Persist::FileSystem,
        risk: "none",
    },
    Check {
        id: "mount-options",
        severity: WARN,
        judge: mount_options,
        why: "a time of access is a write for a read, and a discard at each deletion stops the drive",
        mend: "mount with noatime (or lazytime with relatime), without discard; run fstrim once a week",
        persist: Persist::FileSystem,
        risk: "none",
    },
];

/// A file of the queue of every drive. What this kind of drive does not have is left out.
fn queues(host: &Host, file: &str, wanted: &str, good: fn(&str) -> bool) -> Finding {
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let drives = host.topology.drives.iter();
    let drives = drives.map(|drive| (drive.name.clone(), format!("/sys/block/{}/queue/{file}", drive.name)));
    let mut seen = files(host.root, drives);
    seen.retain(|(_, value)| !value.as_ref().is_err_and(|why| why.missing));
    each(seen, "no drive has it", wanted, good)
}

fn drive_state(host: &Host) -> Finding {
    let wanted = "live";
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let controllers = host.root.numbered("/sys/class/nvme", "nvme").unwrap_or_default();
    let path = |number: &usize| (format!("nvme{number}"), format!("/sys/class/nvme/nvme{number}/state"));
    each(files(host.root, controllers.iter().map(path)), "no NVMe drives", wanted, |state| state == wanted)
}

fn drive_queues(host: &Host) -> Finding {
    let workers: BTreeSet<usize> = host.worker_cores().into_iter().collect();
    let wanted = "a queue for each worker";
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let drives = host.topology.drives.iter().filter(|drive| !drive.queues.is_empty());
    let shared = |queue: &&Vec<usize>| queue.iter().filter(|core| workers.contains(core)).count() > 1;
    let seen = drives.map(|drive| {
        // A queue whose cores could not be read may be anybody's.
        let known = drive.queues.iter().any(|queue| !queue.is_empty());
        let text = match drive.queues.iter().filter(shared).count() {
            0 => "one each".to_string(),
            shared => format!("{shared} of {} have several workers", drive.queues.len()),
        };
        let seen = known.then_some(text);
        (drive.name.clone(), seen.ok_or_else(|| Unknown::because(format!("the cores of the queues of {}", drive.name))))
    });
    each(seen.collect(), "no drive shows its queues", wanted, |text| text == "one each")
}

fn request_size(host: &Host) -> Finding {
    let wanted = format!("{REQUEST_KIB} KiB or more, or what the drive takes");
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let size = |name: &str| {
        let read = |file: &str| host.root.number(&format!("/sys/block/{name}/queue/{file}"));
        let (now, most) = (read("max_sectors_kb")?, read("max_hw_sectors_kb")?);
        Ok(match now >= most.min(REQUEST_KIB) {
            true => format!("{now} KiB"),
            false => format!("{now} of {most} KiB"),
        })
    };
    let mut seen: Vec<Seen> =
        host.topology.drives.iter().map(|drive| (drive.name.clone(), size(&drive.name))).collect();
    seen.retain(|(_, value)| !value.as_ref().is_err_and(|why| why.missing));
    each(seen, "no drive has it", &wanted, |text| !text.contains(" of "))
}

/// How many requests the queue of a drive takes at once, and how many it should: those of the largest commit, or as many as the drive itself
/// takes. Without a scheduler the kernel refuses more.
pub fn requests(root: &Root, drive: &str) -> Result<(i64, i64), Unknown> {
    let read = |file: &str| root.number(&format!("/sys/block/{drive}/{file}"));
    let (now, kib) = (read("queue/nr_requests")?, read("queue/max_sectors_kb")?);
    let most = match read("mq/0/nr_tags") {
        Err(why) if why.missing => i64::MAX,
        most => most?,
    };
    match kib > 0 && most > 0 && now >= 0 {
        true => Ok((now, (COMMIT_KIB.unsigned_abs().div_ceil(kib.unsigned_abs()) as i64).min(most))),
        false => Err(Unknown::because(format!("the sizes of the queue of {drive} are none"))),
    }
}

fn request_queue(host: &Host) -> Finding {
    let wanted = "the requests of a commit of 12 MiB, or what the drive takes";
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let count = |name: &str| {
        let (now, least) = requests(host.root, name)?;
        Ok(if now >= least { now.to_string() } else { format!("{now} of {least}") })
    };
    let drives = host.topology.drives.iter().map(|drive| (drive.name.clone(), count(&drive.name)));
    let mut seen: Vec<Seen> = drives.collect();
    seen.retain(|(_, value)| !value.as_ref().is_err_and(|why| why.missing));
    each(seen, "no drive has it", wanted, |text| !text.contains(" of "))
}

/// The first sensor of each controller, which is what it means by its temperature.
fn temperature(host: &Host) -> Finding {
    let wanted = format!("below {CELSIUS_MAX} C");
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let mut seen: Vec<Seen> = Vec::new();
    for number in host.root.numbered("/sys/class/nvme", "nvme").unwrap_or_default() {
        let controller = format!("/sys/class/nvme/nvme{number}");
        // Its place has changed over the years.
        for above in [controller.clone(), format!("{controller}/hwmon"), format!("{controller}/device/hwmon")] {
            for sensor in host.root.numbered(&above, "hwmon").unwrap_or_default() {
                let path = format!("{above}/hwmon{sensor}/temp1_input");
                let said = host.root.number(&path).and_then(|thousandths| match thousandths / 1000 {
                    degrees @ -60..=200 => Ok(format!("{degrees} C")),
                    _ => Err(Unknown::because(format!("{path} holds no temperature"))),
                });
                seen.push((format!("nvme{number}"), said));
            }
        }
    }
    let cool = |text: &str| text.trim_end_matches(" C").parse::<i64>().is_ok_and(|degrees| degrees < CELSIUS_MAX);
    each(seen, "no NVMe drive has a sensor", &wanted, cool)
}

/// What NVMe controllers say of themselves, to root only.
fn wear(host: &Host) -> Finding {
    let wanted = "no warning, no error of its media, spare cells, and life left";
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let numbers = host.root.numbered("/sys/class/nvme", "nvme").unwrap_or_default();
    let seen = numbers.into_iter().map(|number| format!("nvme{number}")).map(|name| {
        let said = host.root.health(&name).and_then(|said| {
            let number = |what: &str| said.get(what).and_then(|text| text.parse::<u128>().ok());
            let all = [WARNINGS, MEDIA_ERRORS, SPARE, SPARE_LEAST, USED].map(number);
            let [Some(warnings), Some(errors), Some(spare), Some(least), Some(used)] = all else {
                return Err(Unknown::because(format!("what {name} says of its health is no answer")));
            };
            let bad = [
                (warnings != 0).then(|| format!("warnings {warnings:#x}")),
                (errors != 0).then(|| format!("{errors} media errors")),
                (spare <= least).then(|| format!("spare {spare} % (least {least})")),
                (used >= 100).then(|| format!("{used} % of life used")),
            ];
            let bad: Vec<String> = bad.into_iter().flatten().collect();
            Ok(if bad.is_empty() { format!("{used} % used") } else { bad.join(", ") })
        });
        (name, said)
    });
    let well = |text: &str| text.ends_with(" % used");
    each(seen.collect(), "no NVMe drive", wanted, well)
}

/// Interrupts that say a queue's number, as nvme0q3 or virtio1-req.2 does, against the cores of that queue.
fn drive_interrupts(host: &Host) -> Finding {
    let wanted = "on cores of their queues";
    if !host.root.exists("/sys/block") {
        return unknown("/sys/block is not there", wanted);
    }
    let queue = |label: &str| {
        let digits = label.trim_start_matches(|c: char| !c.is_ascii_digit());
        let number = |text: &str| text.parse::<usize>().ok();
        // Queue 0 of NVMe is for commands of the driver.
        let nvme = label.strip_prefix("nvme").and_then(|_| digits.split_once('q'));
        nvme.map_or_else(
            || label.split_once("-req.").and_then(|(_, queue)| number(queue)),
            |(_, queue)| number(queue)?.checked_sub(1),
        )
    };
    let mut seen: Vec<Seen> = Vec::new();
    for drive in &host.topology.drives {
        let pairs = drive.interrupts.iter().filter_map(|each| Some((each, drive.queues.get(queue(&each.label)?)?)));
        let pairs: Vec<_> = pairs.collect();
        if pairs.is_empty() {
            continue;
        }
        let known = pairs.iter().all(|(interrupt, queue)| !interrupt.cores.is_empty() && !queue.is_empty());
        let far = pairs.iter().filter(|(interrupt, queue)| interrupt.cores.iter().any(|core| !queue.contains(core)));
        let text = match far.count() {
            0 => wanted.to_string(),
            far => format!("{far} of {} elsewhere", pairs.len()),
        };
        let text = known.then_some(text);
        seen.push((
            drive.name.clone(),
            text.ok_or_else(|| Unknown::because(format!("where interrupts of {} go", drive.name))),
        ));
    }
    each(seen, "no drive names its interrupts by queues", wanted, |text| text == wanted)
}

fn trimming(host: &Host) -> Finding {
    let (units, wanted) = ("/etc/systemd/system", "fstrim.timer is enabled");
    if !host.root.exists(units) {
        return unknown(format!("{units} is not there, so what starts it cannot be seen"), wanted);
    }
    let sizes = host.topology.drives.iter().map(|drive| {
        host.root.number(&format!("/sys/block/{}/queue/discard_max_bytes", drive.name)).is_ok_and(|bytes| bytes == 0)
    });
    let sizes: Vec<bool> = sizes.collect();
    if !sizes.is_empty() && sizes.iter().all(|never| *never) {
        return absent("no drive can be told what is free", wanted);
    }
    // The name of the link counts, not where it leads.
    match host.root.names(&format!("{units}/timers.target.wants")) {
        Ok(names) => verdict(names.iter().any(|name| name == "fstrim.timer"), names_it(&names), wanted),
        Err(why) if why.missing => unmet(names_it(&[]), wanted),
        Err(why) => unknown(why, wanted),
    }
}

fn names_it(timers: &[String]) -> &'static str {
    if timers.iter().any(|name| name == "fstrim.timer") { "enabled" } else { "not enabled" }
}

/// The data directory, where one is known.
fn data<'a>(host: &Host<'a>) -> Result<&'a str, Unknown> {
    match host.data {
        "" => Err(Unknown::because("no data directory is known: name one with --data")),
        data => Ok(data),
    }
}

fn space(host: &Host) -> Finding {
    let wanted = "room for two segments of each log, and the catalog's spare files";
    let said = match data(host).and_then(|data| host.root.space(data)) {
        Ok(said) => said,
        Err(why) => return unknown(why, wanted),
    };
    let bytes = |name: &str| said.get(name).and_then(|text| text.parse::<u64>().ok());
    let (Some(free), Some(least)) = (bytes(FREE_BYTES), bytes(WANTED_BYTES)) else {
        return unknown("what is said of the space is no answer", wanted);
    };
    let spares = said.get(SPARES).map(String::as_str).filter(|said| *said != "there");
    if spares.is_some_and(|said| !said.starts_with("without ")) {
        return unknown("what is said of the spare files is no answer", wanted);
    }
    let found = format!("{} free{}", gib(free), spares.map_or(String::new(), |said| format!(", {}", plain(said))));
    verdict(free >= least && spares.is_none(), found, format!("{}: {wanted}", gib(least)))
}

struct Mount {
    kind: String,
    options: Vec<String>,
}

/// The mount that the data directory lies in, or will.
fn mount(host: &Host) -> Result<Mount, Unknown> {
    let (path, data) = ("/proc/self/mountinfo", data(host)?);
    let text = host.root.text(path)?;
    let mut best: Option<(usize, Mount)> = None;
    for line in text.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let (head, tail): (Vec<&str>, Vec<&str>) = (head.split(' ').collect(), tail.split(' ').collect());
        let (Some(point), Some(options), Some(kind)) = (head.get(4), head.get(5), tail.first()) else { continue };
        let inside =
            data == *point || data.strip_prefix(point.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'));
        // A later mount at the same place hides the earlier one.
        if inside && best.as_ref().is_none_or(|(length, _)| point.len() >= *length) {
            let options = options.split(',').chain(tail.get(2).unwrap_or(&"").split(','));
            let mount = Mount { kind: kind.to_string(), options: options.map(String::from).collect() };
            best = Some((point.len(), mount));
        }
    }
    let none = || Unknown::because(format!("{path} has no mount for {data}"));
    best.map(|(_, mount)| mount).ok_or_else(none)
}

fn without(host: &Host, banned: &[&str]) -> Finding {
    let wanted = format!("without {}", banned.join(" and "));
    match mount(host) {
        Ok(mount) => {
            let bad: Vec<String> = mount.options.into_iter().filter(|has| banned.contains(&has.as_str())).collect();
            if bad.is_empty() { met("without", wanted) } else { unmet(listed(&bad), wanted) }
        }
        Err(why) => unknown(why, wanted),
    }
}

fn mount_options(host: &Host) -> Finding {
    let wanted = "noatime or lazytime, no discard";
    let options = match mount(host) {
        Ok(mount) => mount.options,
        Err(why) => return unknown(why, wanted),
    };
    let has = |name: &str| options.iter().any(|option| option == name);
    match (has("noatime") || has("lazytime"), has("discard")) {
        (true, false) => met("as wanted", wanted),
        (false, false) => unmet("times of access are written", wanted),
        (true, true) => unmet("discard", wanted),
        (false, true) => unmet("times of access are written, discard", wanted),
    }
}
