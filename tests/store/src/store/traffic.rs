//! Many questions, and long ones.
#![forbid(unsafe_code)]

use futures_util::future::{join, join3, join4};
use kexec::irql::Dispatch;
use xenbus::store::{Path, Xenstore};

use crate::{
    difference::{Outcome, Step},
    ground::{Ground, fill, is_filled},
};

pub(super) async fn many_questions(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome {
    let home = ground.home;
    let own = async |name: &'static str| {
        let node = Path::new(home).join(name);
        let mut room = [0; 16];
        for _ in 0..3 {
            Step("write, among others").done(store.write(at, node, name.as_bytes()).await)?;
            Step("read, among others").value(name.as_bytes(), store.read(at, node, &mut room).await)?;
            Step("list, among others").names(&[], store.directory(at, node, &mut room).await)?;
            Step("remove, among others").done(store.remove(at, node).await)?;
            Step("read what is gone, among others")
                .refused("ENOENT", store.read(at, node, &mut room).await)?;
        }
        Ok(())
    };
    let four = join4(own("a"), own("bb"), own("ccc"), own("dddd"));
    let others = join4(own("e"), own("ff"), own("ggg"), own("hhhh"));
    let (four, others) = join(four, others).await;
    <[Outcome; 4]>::from(four).into_iter().chain(<[Outcome; 4]>::from(others)).collect()
}

pub(super) async fn longer_than_the_ring(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    /// A ring has 1024 bytes, and no daemon refuses so many.
    const LENGTH: usize = 1900;
    let home = ground.home;
    let own = async |name: &'static str, room: &mut [u8], first: u8| {
        let node = Path::new(home).join(name);
        for seed in first..first + 3 {
            fill(&mut room[..LENGTH], seed);
            Step("write a long value").done(store.write(at, node, &room[..LENGTH]).await)?;
            room.fill(0);
            let value = Step("read a long value").done(store.read(at, node, room).await)?;
            let is_right = value.len() == LENGTH && is_filled(value, seed);
            Step("compare a long value").holds(is_right, "each octet", "something else")?;
        }
        Step("remove").done(store.remove(at, node).await)
    };
    let (one, rest) = ground.room.split_at_mut(2048);
    let (two, three) = rest.split_at_mut(2048);
    let (one, two, three) = join3(own("one", one, 1), own("two", two, 11), own("three", three, 21)).await;
    one.and(two).and(three)
}
