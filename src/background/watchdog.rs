//! A hang must become a stall: glommio 0.9 can, in a rare window, park an executor although one of its operations has completed. While a
//! job runs, a plain thread looks every 100 ms whether it has been polled since; if not, it wakes the job through a foreign waker, and
//! counts it when that let the job go on.
//!
//! And what a supervisor's watchdog is told by: whether every worker still takes turns.

use crate::observe::counter::{Counter, Counters};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the thread sleeps when no job runs and nobody unparks it.
const REST: Duration = Duration::from_secs(60);

/// Whether all workers take turns, as an outside watchdog wants to know: a worker that has nothing to do takes one a second at least.
pub struct Turning {
    counters: Vec<Counters>,
    /// Turns of each when all had last taken one.
    seen: Vec<u64>,
}

impl Turning {
    pub fn new(counters: &[Counters]) -> Turning {
        let seen = counters.iter().map(|counters| counters.get(Counter::Turns)).collect();
        Turning { counters: counters.to_vec(), seen }
    }

    /// Whether every worker has taken a turn since this last said so.
    pub fn all(&mut self) -> bool {
        let now: Vec<u64> = self.counters.iter().map(|counters| counters.get(Counter::Turns)).collect();
        let all = now.iter().zip(&self.seen).all(|(now, seen)| now != seen);
        if all {
            self.seen = now;
        }
        all
    }
}

struct Watch {
    /// Of the job that runs; put there, replaced and dropped only by its own thread.
    waker: Mutex<Option<Waker>>,
    polls: AtomicU64,
    /// Steps that the job has made.
    steps: AtomicU64,
    /// The watchdog has woken the job, which has not been polled since.
    woken: AtomicBool,
    /// Where stalls are counted, too, for whoever watches from outside.
    counters: Counters,
    stalls: AtomicU64,
    ended: AtomicBool,
}

impl Watch {
    fn new(counters: Counters) -> Watch {
        Watch {
            waker: Mutex::new(None),
            polls: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            woken: AtomicBool::new(false),
            counters,
            stalls: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }
}

/// Watches the jobs of one executor, one at a time.
pub struct Watchdog {
    watch: Arc<Watch>,
    thread: thread::Thread,
}

/// Tells the watchdog of progress.
#[derive(Clone)]
pub struct Steps(Arc<Watch>);

impl Steps {
    /// The job has got something done.
    pub fn made(&self) {
        self.0.steps.fetch_add(1, Relaxed);
    }
}

impl Watchdog {
    /// Stalls are counted in `counters`, in which nobody else counts them.
    pub fn start(name: &str, counters: Counters) -> std::io::Result<Watchdog> {
        let watch = Arc::new(Watch::new(counters));
        let theirs = watch.clone();
        let thread = thread::Builder::new().name(name.to_string()).spawn(move || look_after(&theirs))?;
        Ok(Watchdog { watch, thread: thread.thread().clone() })
    }

    pub fn steps(&self) -> Steps {
        Steps(self.watch.clone())
    }

    /// Runs `job` under watch.
    pub fn watch<F: Future>(&self, job: F) -> Watched<F> {
        Watched { watch: self.watch.clone(), thread: self.thread.clone(), job: Box::pin(job) }
    }

    /// How often a job had to be woken to go on.
    pub fn stalls(&self) -> u64 {
        self.watch.stalls.load(Relaxed)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watch.ended.store(true, Relaxed);
        self.thread.unpark();
    }
}

fn look_after(watch: &Watch) {
    let mut seen = u64::MAX;
    while !watch.ended.load(Relaxed) {
        if lock(&watch.waker).is_none() {
            thread::park_timeout(REST);
            continue;
        }
        thread::sleep(LOOK_EVERY);
        let polls = watch.polls.load(Relaxed);
        if polls == seen {
            watch.woken.store(true, Relaxed);
            // Woken where it lies: a waker of an executor is not to be dropped on a foreign thread.
            if let Some(waker) = lock(&watch.waker).as_ref() {
                waker.wake_by_ref();
            }
        }
        seen = polls;
    }
}

/// A job under watch.
pub struct Watched<F> {
    watch: Arc<Watch>,
    /// The watchdog's.
    thread: thread::Thread,
    job: Pin<Box<F>>,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Watched { watch, thread, job } = self.get_mut();
        let first = {
            let mut waker = lock(&watch.waker);
            let first = waker.is_none();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            first
        };
        if first {
            // Now that there is something to wake: earlier it would find nothing and rest again.
            thread.unpark();
        }
        watch.polls.fetch_add(1, Relaxed);
        let woken = watch.woken.swap(false, Relaxed) && !first;
        let before = watch.steps.load(Relaxed);
        let polled = job.as_mut().poll(context);
        if woken && (polled.is_ready() || watch.steps.load(Relaxed) != before) {
            watch.stalls.fetch_add(1, Relaxed);
            watch.counters.add(Counter::CompanionStalls, 1);
        }
        polled
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        *lock(&self.watch.waker) = None;
    }
}

fn lock(waker: &Mutex<Option<Waker>>) -> MutexGuard<'_, Option<Waker>> {
    waker.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    #[test]
    fn one_worker_that_stands_still_is_enough_for_alarm() {
        let counters = [Counters::default(), Counters::default()];
        let mut turning = Turning::new(&counters);
        assert!(!turning.all());
        counters[0].add(Counter::Turns, 5);
        assert!(!turning.all(), "the other one stands");
        counters[1].add(Counter::Turns, 1);
        assert!(turning.all() && !turning.all(), "each turn counts once");
        counters.iter().for_each(|counters| counters.add(Counter::Turns, 1));
        assert!(turning.all());
    }

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// A job that has something to do after its first poll, but is never woken for it.
    struct Forgotten {
        steps: Steps,
        polls: u32,
    }

    impl Future for Forgotten {
        type Output = u32;
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
            self.polls += 1;
            if self.polls == 1 {
                return Poll::Pending;
            }
            self.steps.made();
            Poll::Ready(self.polls)
        }
    }

    #[test]
    fn a_job_that_was_forgotten_is_woken_and_counted() {
        let counters = Counters::default();
        let dog = Watchdog::start("watchdog", counters.clone()).expect("a thread");
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut job = dog.watch(Forgotten { steps: dog.steps(), polls: 0 });
        let polls = loop {
            match Pin::new(&mut job).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(polls) => break polls,
                Poll::Pending => thread::park(),
            }
        };
        assert!(polls >= 2);
        assert_eq!((dog.stalls(), counters.get(Counter::CompanionStalls)), (1, 1));
        let shown = crate::observe::expose::metrics(&[counters]);
        assert!(shown.contains("penstock_companion_stalls_total{worker=\"0\"} 1\n"), "{shown}");
    }
}
