//! Lists that are too long for a message.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::Relaxed;

use kexec::irql::Dispatch;
use xen_harness::Rig;
use xenbus::store::{Root as _, StoreError, Xenstore};

use crate::world::{Driver, Failed, Work, scenario};

struct Long;

const LIST: &str = "data/list";
const COUNT: usize = 4;

fn name(number: usize) -> String {
    format!("{}-{number}", "n".repeat(1500))
}

/// The toolstack makes a list of six thousand bytes: a guest's quota is smaller.
fn furnish(rig: &Rig) {
    let (toolstack, domain) = (rig.machine().toolstack(), rig.guest().domain());
    for number in 0..COUNT {
        toolstack.write(&format!("/local/domain/{domain}/{LIST}/{}", name(number)), "");
    }
}

impl Work for Long {
    async fn work(at: &Dispatch, driver: &Driver) -> Result<(), Failed> {
        let (mut room, mut little) = (vec![0; 16384], vec![0; 4500]);
        loop {
            match driver.store.directory(at, LIST, &mut room).await {
                Ok(names) => {
                    let mut names: Vec<&str> = names.collect();
                    names.sort_unstable();
                    let is_right = names.iter().copied().eq((0..COUNT).map(name));
                    let short =
                        driver.store.within(xenbus::store::PATIENCE).directory(at, LIST, &mut little).await;
                    driver.counted.fetch_add(1, Relaxed);
                    return match short {
                        _ if !is_right => Err(Failed::Wrong("the children are others")),
                        Err(StoreError::Disconnected) if driver.is_connected() => continue,
                        Ok(_) => Err(Failed::Wrong("there is no room for that")),
                        Err(StoreError::NoRoom { needed, .. }) if needed > 4500 => Ok(()),
                        Err(error) => Err(error.into()),
                    };
                }
                Err(StoreError::Disconnected) if driver.is_connected() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A list that comes in pieces is whole, also if it changes between two of them: then it is begun again.
#[test]
fn a_list_in_pieces() {
    scenario::<Long>("lists", "read", furnish)
        .fault("the list changes", |world| {
            let (machine, domain) = (world.driver.rig.machine(), world.driver.rig.guest().domain());
            // The first of them becomes the last.
            let first = format!("/local/domain/{domain}/{LIST}/{}", name(0));
            machine.toolstack().rm(&first);
            machine.toolstack().write(&first, "");
        })
        .seeds(0..0)
        .boundaries(20)
        .floor("read", 100)
        .run();
}
