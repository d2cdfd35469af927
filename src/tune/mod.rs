//! What this host is, where penstock would run on it, what about it costs latency or throughput, and how that is changed and put back.
//!
//! Only `root` and `hands` touch files, and ask drivers of NICs, which `drivers` has as files; `facts` has as files what takes a system call.
//! `topology` is the model of a host and does not know where it comes from; `discover` fills it from `/sys`
//! and `/proc`; `placement` says which thread runs where; `map` shows all of it; `check` holds the table of checks. `mend` says what each of
//! them wants of which file, `plan` what of that differs, `beside` what changes by itself with it, `lasting` what keeps it over a restart; `apply` does it, with
//! `journal` before it; `prove` says whether it had an effect.

pub mod apply;
pub mod beside;
pub mod check;
pub mod cores;
pub mod describe;
pub mod discover;
pub mod drift;
pub mod drivers;
pub mod facts;
pub mod group;
pub mod hands;
pub mod journal;
pub mod lasting;
pub mod map;
pub mod mend;
pub mod placement;
pub mod plan;
pub mod prove;
pub mod report;
pub mod root;
pub mod show;
pub mod svg;
pub mod topology;
