//! The queue on this machine, and a consumer that parks.

use super::spsc::{Doorbell, channel};
use std::sync::Arc;
use std::thread;

#[test]
fn items_come_out_in_order_and_a_full_queue_gives_them_back() {
    let (mut sender, mut receiver) = channel(3);
    assert_eq!((sender.free(), receiver.pop()), (3, None));
    for round in 0..10 {
        for item in 0..3 {
            sender.push(round * 3 + item).expect("room for three");
        }
        assert_eq!((sender.push(99), sender.free()), (Err(99), 0));
        assert_eq!([(); 4].map(|()| receiver.pop()), [0, 1, 2, 3].map(|n| (n < 3).then_some(round * 3 + n)));
    }
}

#[test]
fn what_is_left_in_the_queue_is_dropped_once() {
    let item = Arc::new(());
    let (mut sender, mut receiver) = channel(4);
    for _ in 0..4 {
        sender.push(item.clone()).expect("room");
    }
    drop(receiver.pop());
    sender.push(item.clone()).expect("room for one");
    drop((sender, receiver));
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn two_threads_hand_over_every_item_in_order_with_a_consumer_that_parks() {
    const ITEMS: u64 = 200_000;
    let (mut sender, mut receiver) = channel(64);
    let bell = Arc::new(Doorbell::new());
    let theirs = bell.clone();
    let consumer = thread::spawn(move || {
        let mut expected = 0;
        while expected < ITEMS {
            match receiver.pop() {
                Some(item) => {
                    assert_eq!(item, expected);
                    expected += 1;
                }
                None => {
                    theirs.about_to_sleep();
                    if receiver.is_empty() {
                        thread::park();
                    }
                    theirs.awake();
                }
            }
        }
    });
    for item in 0..ITEMS {
        while sender.push(item).is_err() {
            thread::yield_now();
        }
        if bell.must_wake() {
            consumer.thread().unpark();
        }
    }
    consumer.join().expect("every item arrived in order");
}
