//! Guests that leave something behind in the store.

use xen_abi::{
    domid::DOMID_SELF,
    event_channel::{EVTCHNOP_SEND, EvtchnPort, Send},
    hvm::{
        op::{HVMOP_GET_PARAM, Param},
        params::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN},
    },
    hypercall::{EVENT_CHANNEL_OP, HVM_OP},
    io::xs_wire::{Header, MessageType, REQ, REQ_PROD, RSP, RSP_CONS, RSP_PROD},
    seam::{Access as _, Gfn, Place},
};
use xen_sim::Arena;
use zerocopy::{FromBytes, IntoBytes};

use crate::kernel::{ARGUMENTS, Kernel, LENGTH};

fn parameter(kernel: &Kernel, index: u32) -> u64 {
    let mut param = Param { domid: DOMID_SELF, index, ..Param::default() };
    let mut arena = Arena::new(ARGUMENTS, LENGTH);
    kernel.call(HVM_OP, HVMOP_GET_PARAM, 0, &mut param, &mut arena).expect("a guest may read it");
    param.value
}

/// Sends a message that fits into the ring, waits for everything that xenstored sends, and returns the payload of the first reply.
fn ask(kernel: &Kernel, kind: MessageType, tx_id: u32, payload: &[u8]) -> Vec<u8> {
    let page = kernel.existing(Gfn(parameter(kernel, HVM_PARAM_STORE_PFN)));
    let len = u32::try_from(payload.len()).expect("it is short");
    let message = [Header { r#type: kind as u32, req_id: 7, tx_id, len }.as_bytes(), payload].concat();
    let start: u32 = page.load(REQ_PROD);
    for (index, byte) in (start..).zip(&message) {
        page.store(REQ.get((index % 1024) as usize).expect("in the ring"), *byte);
    }
    page.store(REQ_PROD, start + u32::try_from(message.len()).expect("it is short"));
    let port = u32::try_from(parameter(kernel, HVM_PARAM_STORE_EVTCHN)).expect("a port");
    let mut send = Send { port: EvtchnPort(port) };
    let mut arena = Arena::new(ARGUMENTS, LENGTH);
    kernel.call(EVENT_CHANNEL_OP, EVTCHNOP_SEND, 0, &mut send, &mut arena).expect("xenstored listens");
    assert!(kernel.machine.run(1000));
    let (from, to): (u32, u32) = (page.load(RSP_CONS), page.load(RSP_PROD));
    let place = |index: u32| -> Place<u8> { RSP.get((index % 1024) as usize).expect("in the ring") };
    let bytes: Vec<u8> = (from..to).map(|index| page.load(place(index))).collect();
    page.store(RSP_CONS, to);
    kernel.free(page);
    let (header, rest) = Header::read_from_prefix(&bytes).expect("there is a reply");
    assert_eq!((header.r#type, header.req_id), (kind as u32, 7), "{}", String::from_utf8_lossy(rest));
    rest[..header.len as usize].to_vec()
}

pub(crate) fn watch_left(kernel: &Kernel, wrong: bool) {
    ask(kernel, MessageType::Watch, 0, b"device\0token\0");
    if !wrong {
        ask(kernel, MessageType::Unwatch, 0, b"device\0token\0");
    }
}

pub(crate) fn transaction_left(kernel: &Kernel, wrong: bool) {
    let id = ask(kernel, MessageType::TransactionStart, 0, b"\0");
    let id = String::from_utf8_lossy(&id).trim_end_matches('\0').parse().expect("a number");
    if !wrong {
        ask(kernel, MessageType::TransactionEnd, id, b"F\0");
    }
}
