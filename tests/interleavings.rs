//! The queue and its doorbell under every interleaving that the memory model allows. What is compiled here is the server's own file, with loom's
//! types in place of std's.

use loom::sync::{Condvar, Mutex};
use loom::thread;
use spsc::{Doorbell, channel};
use sync::Arc;

/// In place of `src/stdx/sync.rs`.
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
}

#[allow(dead_code, reason = "the models need less of it than the server")]
#[path = "../src/stdx/spsc.rs"]
mod spsc;

#[test]
fn a_slot_is_handed_over_and_used_again() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel(1);
        let producer = thread::spawn(move || {
            let mut next = 0;
            while next < 2 {
                match sender.push(Box::new(next)) {
                    Ok(()) => next += 1,
                    Err(_) => thread::yield_now(),
                }
            }
        });
        let mut expected = 0;
        while expected < 2 {
            match receiver.pop() {
                Some(item) => {
                    assert_eq!(*item, expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        producer.join().expect("the producer ends");
    });
}

/// What wakes a consumer: a letter that stays until it is read, as a completion in a ring or a count in an eventfd does.
#[derive(Default)]
struct Letterbox(Mutex<bool>, Condvar);

impl Letterbox {
    fn put(&self) {
        *self.0.lock().expect("nobody panics") = true;
        self.1.notify_one();
    }
    fn wait(&self) {
        let mut letter = self.0.lock().expect("nobody panics");
        while !*letter {
            letter = self.1.wait(letter).expect("nobody panics");
        }
        *letter = false;
    }
}

/// A lost wake-up would leave the consumer asleep for ever, which loom reports as a deadlock.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel(2);
        let bell = Arc::new(Doorbell::new());
        let letters = Arc::new(Letterbox::default());
        let (theirs, inbox) = (bell.clone(), letters.clone());
        let consumer = thread::spawn(move || {
            let mut got = 0;
            while got < 2 {
                if receiver.pop().is_some() {
                    got += 1;
                    continue;
                }
                theirs.about_to_sleep();
                if receiver.is_empty() {
                    inbox.wait();
                }
                theirs.awake();
            }
        });
        for item in 0..2 {
            sender.push(item).expect("room for both");
            if bell.must_wake() {
                letters.put();
            }
        }
        consumer.join().expect("both arrived");
    });
}

#[test]
fn of_two_producers_exactly_one_wakes_a_sleeper() {
    loom::model(|| {
        let bell = Arc::new(Doorbell::new());
        bell.about_to_sleep();
        let other = bell.clone();
        let second = thread::spawn(move || other.must_wake());
        let first = bell.must_wake();
        assert!(first ^ second.join().expect("the other producer ends"));
    });
}
