//! The same client, under every fault at every poll boundary.

use kexec::{
    platform::mock::keep,
    testing::{Joined, Scenario, Sim},
};

use crate::{
    PROMPT, SLOW,
    daemon::{self, Mood, Wire, value_of},
    store::{self, ReadError, Store},
    timeline::Timeline,
};

struct World {
    wire: &'static Wire,
    store: &'static Store,
    read: Joined<Result<String, ReadError>>,
}

fn world(sim: &mut Sim) -> World {
    let (driver, dom0, slots) = (sim.executor("driver"), sim.device("dom0"), sim.pool::<1024, 4>());
    let wire: &'static Wire = keep(Wire::new(SLOW));
    let store: &'static Store = keep(Store::new(wire, Timeline::new(driver)));
    dom0.spawn(slots, daemon::serve, wire).expect("a slot is free").detach();
    let receive = driver.spawn(slots, store::receive, store).expect("a slot is free").detach();
    sim.spare(receive);
    let read = driver.spawn(slots, async move |_, ()| store.read("a").await, ()).expect("a slot is free");
    World { wire, store, read: sim.must_end("read", read) }
}

/// Whatever happens, and whenever: the read has an end, it is the right one, and no question is left behind.
#[test]
fn nothing_is_left_behind() {
    Scenario::new("store", world)
        .fault("daemon hurries", |world| world.wire.set_mood(PROMPT))
        .fault("daemon dies", |world| world.wire.set_mood(Mood::Silent))
        .fault("store closed", |world| world.store.closing.set())
        .check(|world, case| {
            assert_eq!(world.store.pending(), 0, "questions");
            let read = world.read.outcome().expect("it must end");
            match case.fault().as_deref() {
                Some("abort" | "close driver" | "store closed" | "daemon dies") => {}
                _ => assert_eq!(read, Ok(Ok(value_of("a")))),
            }
            if let Ok(Ok(value)) = read {
                assert_eq!(value, value_of("a"));
            }
        })
        .boundaries(10)
        .run();
}
