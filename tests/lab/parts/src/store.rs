//! The conformance suite of xenstore, on whatever xenstored there is.

use core::pin::pin;

use futures_util::future::{Either, select};
use kexec::yield_now;
use xen_abi::{event_channel::EvtchnPort, hvm::params::HVM_PARAM_STORE_EVTCHN};
use xenbus::{
    event::StopError,
    hypercall::{event_channel, hvm},
};
use xenstore_suite::{CASES, Ground, wire};

use crate::{
    Body, Order, Room,
    teller::{Outcome, Teller, Wrong},
};

/// Where it works.
const HOME: &str = "data/suite";

/// Runs the cases that go through the bus, as drivers do.
pub(crate) async fn through_the_bus<B: Body>(teller: &mut Teller<'_, B>, order: &Order, room: &mut Room) {
    for case in CASES {
        let mut ground = Ground { home: HOME, domain: order.domain, profile: order.profile, room };
        let outcome = case.run(teller.at, teller.body.store(), &mut ground).await;
        teller.check(case.name, outcome).await;
    }
}

/// Runs the cases that send and receive bytes, with event channels that are there for nothing else.
pub(crate) async fn on_the_wire<B: Body>(teller: &mut Teller<'_, B>, order: &Order, room: &mut Room) {
    let outcome = cases_on_the_wire(teller, order, room).await;
    teller.check("the ring is given back", outcome).await;
}

async fn cases_on_the_wire<B: Body>(teller: &mut Teller<'_, B>, order: &Order, room: &mut Room) -> Outcome {
    let (at, body) = (teller.at, teller.body);
    let port = hvm::get_param(body.platform(), HVM_PARAM_STORE_EVTCHN).map_err(Wrong::new)?;
    let port = EvtchnPort(u32::try_from(port).map_err(Wrong::new)?);
    let page = body.store_ring(at).ok_or_else(|| Wrong::new("the page of the ring cannot be mapped"))?;
    body.events().start(at, body.platform().clone(), body.config(order.fifo)).map_err(Wrong::new)?;
    // If xenstored cannot be told, no answer comes: that is noticed.
    let ring = wire::Ring::new(page, || _ = event_channel::send(body.platform(), port));
    let channel = body.events().fixed(at, port).map_err(Wrong::new)?;
    {
        let listen = async {
            while channel.wait(at).await.is_ok() {
                ring.notify();
            }
        };
        let all = async {
            for case in wire::CASES {
                let mut ground = Ground { home: HOME, domain: order.domain, profile: order.profile, room };
                let outcome = case.run(at, &ring, &mut ground).await;
                teller.check(case.name, outcome).await;
            }
        };
        if let Either::Left(_) = select(pin!(listen), pin!(all)).await {
            return Err(Wrong::new("the guest has been suspended meanwhile"));
        }
    }
    drop(channel);
    loop {
        match body.events().stop(at) {
            Ok(()) => return Ok(()),
            // It may be what this task was woken from.
            Err(StopError::Upcall(_) | StopError::InUse) => yield_now().await,
            Err(error) => return Err(Wrong::new(error)),
        }
    }
}
