//! The same mistake, found by the testing kit before a machine hangs.

use kexec::{
    irql::Dispatch,
    platform::mock::keep,
    testing::{Problem, Scenario, Sim},
};

use crate::driver::{Device, reset, reset_in_order, transmit};

fn both<R>(sim: &mut Sim, reset: R)
where
    R: AsyncFnOnce(&mut Dispatch, &'static Device) + Send + 'static,
{
    let device: &'static Device = keep(Device::new());
    let (driver, slots) = (sim.executor("net"), sim.pool::<256, 2>());
    let transmits = driver.spawn(slots, transmit, device).expect("a slot is free");
    let resets = driver.spawn(slots, reset, device).expect("a slot is free");
    sim.must_end("transmit", transmits);
    sim.must_end("reset", resets);
}

#[test]
fn two_orders_of_two_locks() {
    let report = Scenario::new("two orders", |sim| both(sim, reset)).seeds(0..0).enumerate();
    let failure = &report.failures()[0];
    assert_eq!(failure.problems, [Problem::Waits("transmit"), Problem::Waits("reset")]);
    assert!(failure.parked[0].contains("\"the grant table, with the ring locked\""), "{failure}");
    assert!(failure.parked[1].contains("\"the ring, with the grant table locked\""), "{failure}");
}

#[test]
fn one_order_for_all() {
    Scenario::new("one order", |sim| both(sim, reset_in_order)).boundaries(5).run();
}
