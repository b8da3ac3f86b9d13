//! What a row says of a task, from its spawn to its end.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
};

use futures_util::future::{join, select};
use kexec::{
    Cancelled, Lane, Pool,
    irql::Dispatch,
    platform::mock::keep,
    task_table::{Label, State, UNLABELLED},
    yield_now,
};

use crate::support::{ROOM, after_one_poll, executor, never, only, slots, spawn};

/// Every state, in the order in which a task with a handle goes through them, with both its ends.
#[test]
fn the_states_of_a_task() {
    let (executor, slots) = (executor(), slots());
    assert_eq!(slots.tasks().count(), 0, "no slot was ever used");
    let handle = spawn(executor, slots, yield_now);
    let row = only(slots);
    assert_eq!((row.state, row.polls, row.wakes, row.kind), (State::Queued, 0, 0, None));
    assert_eq!(row.whereabouts().to_string(), "queued, not yet polled");
    executor.step();
    let row = only(slots);
    assert_eq!((row.state, row.polls, row.wakes), (State::Queued, 1, 1), "it has woken itself");
    assert!(row.whereabouts().to_string().starts_with("queued, was at yield, "), "{row}");
    executor.step();
    let row = only(slots);
    assert_eq!((row.state, row.polls, row.wakes), (State::Ended { output: true }, 2, 1));
    assert_eq!(row.kind, None, "it is parked nowhere");
    assert_eq!(handle.try_take().expect("it has ended"), Ok(()));
    assert_eq!(only(slots).state, State::Free);
    assert_eq!(only(slots).name, "", "the slot has no task");

    let handle = spawn(executor, slots, never);
    executor.step();
    let row = only(slots);
    assert_eq!((row.state, row.generation, row.polls, row.wakes), (State::Parked, 2, 1, 0));
    handle.abort();
    let row = only(slots);
    assert_eq!((row.state, row.cancelled), (State::Queued, true));
    assert_eq!(row.whereabouts().to_string(), "queued, was at unlabelled, cancelled");
    executor.step();
    let row = only(slots);
    assert_eq!((row.state, row.polls), (State::Ended { output: false }, 1), "it was dropped, not polled");
    assert_eq!(handle.try_take().expect("it has ended"), Err(Cancelled));
}

/// A task that looks at its own row finds itself being polled, with nothing of the last park.
#[test]
fn a_task_that_is_being_polled() {
    let (executor, slots) = (executor(), slots());
    let looks = async move || {
        yield_now().label("before").await;
        only(slots)
    };
    let row = executor.spawn(slots, async move |_: &mut Dispatch, ()| looks().await, ());
    let row = row.expect("a slot is free");
    executor.settle();
    let row = row.try_take().expect("it has run").expect("nobody cancels it");
    assert_eq!((row.state, row.polls, row.wakes), (State::Polled, 2, 1));
    assert_eq!((row.kind, row.place, row.label), (None, None, None));
    assert_eq!(row.executor.name, "test");
}

/// A wake that finds the task queued is none.
#[test]
fn only_effective_wakes_count() {
    let (executor, slots) = (executor(), slots());
    let task = spawn(executor, slots, never).detach();
    executor.settle();
    for _ in 0..3 {
        (0..5).for_each(|_| task.wake());
        executor.settle();
    }
    let row = only(slots);
    assert_eq!((row.state, row.polls, row.wakes), (State::Parked, 4, 3));
    (0..5).for_each(|_| task.wake());
    assert_eq!((only(slots).state, only(slots).wakes), (State::Queued, 4));
}

/// A wake that is late finds no task, and the next tenant's counts begin at nothing.
#[test]
fn counts_are_the_tenants_own() {
    let (executor, slots) = (executor(), slots());
    let first = spawn(executor, slots, yield_now).detach();
    executor.settle();
    first.wake();
    assert_eq!(only(slots).state, State::Free);
    spawn(executor, slots, never).detach();
    executor.settle();
    let row = only(slots);
    assert_eq!((row.state, row.generation, row.polls, row.wakes), (State::Parked, 2, 1, 0));
    assert_eq!(row.label, None);
}

/// The name is the path of what was spawned, the site is where.
#[test]
fn name_and_site() {
    async fn named(_: &mut Dispatch, (): ()) {
        never().await;
    }
    let (executor, slots) = (executor(), keep(Pool::<ROOM, 1>::control()).as_table());
    let line = line!() + 1;
    executor.spawn(slots, named, ()).expect("a slot is free").detach();
    let row = only(slots);
    assert!(row.name.ends_with("rows::name_and_site::named"), "{row}");
    let site = row.site.expect("a task has a site");
    assert_eq!((site.file, site.line), (file!(), line));
    assert_eq!((row.lane, row.slot, row.generation), (Lane::Control, 0, 1));
    let expected = format!(
        "{}: queued, not yet polled; #1 in slot 0, control, 0 polls, 0 wakes, spawned at {}:{line}",
        row.name,
        file!()
    );
    assert_eq!(row.to_string(), expected);
}

/// Of labels within labels the outermost is shown, of this park only.
#[test]
fn the_outermost_label_of_this_park() {
    let row = after_one_poll(|| async { yield_now().label("inner").await }.label("outer"));
    assert_eq!(row.label, Some("outer"));
    let row = after_one_poll(|| async { yield_now().await }.label("outer"));
    assert_eq!(row.label, Some("outer"));

    let (executor, slots) = (executor(), slots());
    spawn(executor, slots, async || {
        yield_now().label("first").await;
        yield_now().await;
    })
    .detach();
    executor.step();
    assert_eq!(only(slots).label, Some("first"));
    executor.step();
    assert_eq!(
        (only(slots).kind, only(slots).label),
        (Some("yield"), None),
        "the label of the first park is gone"
    );
}

/// In a join or select the leaf that parked last is shown, with its own label and not its neighbour's.
#[test]
fn the_leaf_that_parked_last() {
    let row = after_one_poll(|| join(yield_now().label("left"), yield_now().label("right")));
    assert_eq!((row.kind, row.label), (Some("yield"), Some("right")));
    let row = after_one_poll(|| join(yield_now().label("left"), yield_now()));
    assert_eq!((row.kind, row.label), (Some("yield"), None));
    let row = after_one_poll(|| select(yield_now().label("left"), Box::pin(never().label("right"))));
    // A foreign leaf parks without a word: the kind is its neighbour's, and the label its own.
    assert_eq!((row.kind, row.label), (Some("yield"), Some("right")));
}

/// Whoever polls a future with a waker of his own hides what is in it: that is no task's waker.
#[test]
fn a_waker_in_between_hides_the_leaf() {
    let row = after_one_poll(|| async {
        let mut inner = pin!(yield_now().label("hidden"));
        poll_fn(|_| inner.as_mut().poll(&mut Context::from_waker(Waker::noop()))).await;
    });
    assert_eq!((row.state, row.kind, row.label), (State::Parked, Some(UNLABELLED), None));
}

/// A label that is not in the image, but far away on the heap, is not told; nothing else is lost by it.
#[test]
fn a_text_that_is_not_in_the_image() {
    let far: &'static str = Box::leak("far".repeat(3).into_boxed_str());
    let row = after_one_poll(move || yield_now().label(far));
    let place = row.place.expect("the leaf has a place").file.as_ptr().addr();
    let is_far = far.as_ptr().addr().abs_diff(place) > 1 << 31;
    let expected = if is_far { "" } else { far };
    assert_eq!((row.kind, row.label), (Some("yield"), Some(expected)));
}

/// What a poll that returns at once leaves behind.
#[test]
fn a_poll_that_never_parked() {
    let (executor, slots) = (executor(), slots());
    let handle = spawn(executor, slots, async || poll_fn(|_| Poll::Ready(())).await);
    executor.settle();
    let row = only(slots);
    assert_eq!((row.state, row.polls, row.wakes, row.kind), (State::Ended { output: true }, 1, 0, None));
    drop(handle);
    assert_eq!(only(slots).whereabouts().to_string(), "free");
}
