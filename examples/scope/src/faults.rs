//! The same device, under every fault at every poll boundary: its removal is one of them.

use kexec::testing::{Scenario, Sim};

use crate::{
    backend,
    buffers::BUFFERS,
    device::{Device, Scopes},
};

/// Reads for each queue, which are fewer than in the program for the runs to be short.
const READS: u64 = 3;

fn world(sim: &mut Sim) -> Device {
    let (driver, disk, slots) = (sim.executor("driver"), sim.device("disk"), sim.pool::<768, 16>());
    let scopes = Scopes {
        device: sim.scope("device"),
        connection: sim.scope("connection"),
        queues: [sim.scope("queue 0"), sim.scope("queue 1")],
    };
    let device = Device::start(driver, slots, scopes, READS);
    for queue in device.queues {
        disk.spawn(slots, backend::serve, &queue.ring).expect("there are enough slots").detach();
    }
    for servant in &device.servants {
        sim.spare(*servant);
    }
    device
}

/// Whatever happens, and whenever: each request is completed once, and every buffer is free in the end.
#[test]
fn nothing_is_lost() {
    let report = Scenario::new("transfer", world)
        .check(|device, case| {
            let books = device.books.lock();
            assert_eq!(books.len(), 2 * usize::try_from(READS).unwrap());
            assert!(books.values().all(|outcomes| outcomes.len() == 1), "{books:?}");
            assert_eq!(device.buffers.free(), BUFFERS, "free buffers");
            if matches!(case.fault().as_deref(), None | Some("suspend" | "wake")) {
                assert!(books.values().all(|outcomes| outcomes == &[Ok(())]), "{books:?}");
            }
        })
        .boundaries(20)
        .seeds(0..2)
        .run();
    println!("{report}");
}
