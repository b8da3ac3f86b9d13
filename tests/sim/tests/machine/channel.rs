//! Xenstored's end of a guest's event channel and ring: who is woken, and when.
#![forbid(unsafe_code)]

use xen_abi::{
    domid::DomId,
    event_channel::Channel,
    io::xs_wire::{
        CONNECTION, ERROR, MessageType, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, XENSTORE_RING_SIZE,
    },
    seam::Access as _,
};
use xen_sim::{Actor, Machine};

use crate::{
    kernel::{ENOUGH, Kernel},
    wire::strings,
};

/// A guest that comes up finds its channel connected, an event waiting, and an empty ring.
#[test]
fn introduced() {
    let machine = Machine::new(1);
    let kernel = Kernel::boot(&machine);
    assert!(matches!(kernel.channel(kernel.store.port), Channel::Interdomain(DomId(0), _)));
    kernel.settle();
    assert_eq!(kernel.come(kernel.store.port), 1, "xenstored has signalled");
    let ring = kernel.ring();
    assert_eq!(
        [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION, ERROR].map(|word| ring.load(word)),
        [0; 6]
    );
    assert!(machine.ready().is_empty());
}

/// Xenstored does nothing before it is told: what is in the ring waits.
#[test]
fn nothing_happens_without_an_event() {
    let mut kernel = Kernel::alone(1);
    kernel.settle();
    let request = kernel.begin(MessageType::Read, 0, &strings(&["name"]));
    kernel.produce();
    kernel.settle();
    assert_ne!(kernel.ring().load(REQ_PROD), 0);
    assert_eq!(kernel.ring().load(REQ_CONS), 0, "nobody has told it");
    kernel.send(kernel.store.port).expect("it is open");
    assert!(kernel.machine.ready().contains(&Actor::Xenstored));
    kernel.settle();
    kernel.consume();
    assert_eq!(kernel.reply(request), Some(Ok(b"guest".to_vec())));
}

/// A ring that is full of replies stays so until the guest takes them and says that it has; then all the others come, in order.
#[test]
fn a_full_ring() {
    let mut kernel = Kernel::alone(1);
    kernel.settle();
    let value = "v".repeat(200);
    kernel.write("data", &value).expect("its own");
    let requests: Vec<u32> =
        (0..40).map(|_| kernel.begin(MessageType::Read, 0, &strings(&["data"]))).collect();
    // The guest writes, and takes nothing.
    for _ in 0..8 {
        kernel.produce();
        kernel.send(kernel.store.port).expect("it is open");
        kernel.settle();
    }
    let ring = kernel.ring();
    assert_eq!(ring.load(RSP_PROD).wrapping_sub(ring.load(RSP_CONS)), XENSTORE_RING_SIZE, "it is full");
    kernel.come(kernel.store.port);
    kernel.consume();
    kernel.settle();
    assert_eq!(ring.load(RSP_PROD), ring.load(RSP_CONS), "xenstored does not know that there is room");
    kernel.pump();
    assert_ne!(kernel.come(kernel.store.port), 0);
    for request in requests {
        assert_eq!(kernel.reply(request), Some(Ok(value.clone().into_bytes())));
    }
    // And what comes later is not forgotten.
    kernel.watch("data", "mine");
    kernel.settle();
    kernel.come(kernel.store.port);
    kernel.machine.toolstack().write("/local/domain/1/data", "");
    kernel.settle();
    assert_eq!(kernel.come(kernel.store.port), 1);
}

/// What one guest writes wakes another that watches, and nobody else.
#[test]
fn events_between_guests() {
    let machine = Machine::new(1);
    let [mut writer, mut watcher, bystander] = [(); 3].map(|()| Kernel::boot(&machine));
    writer.write("data", "").expect("its own");
    writer.set_permissions("data", &["n1", "r2"]).expect("its own");
    watcher.watch("/local/domain/1/data", "other");
    for kernel in [&watcher, &bystander] {
        kernel.settle();
        kernel.come(kernel.store.port);
    }
    writer.write("data/key", "1").expect("its own");
    assert_eq!(watcher.come(watcher.store.port), 1);
    assert_eq!(bystander.come(bystander.store.port), 0);
    assert_eq!(watcher.events(), [("/local/domain/1/data/key".into(), "other".into())]);
}

/// One guest's full ring holds nobody up.
#[test]
fn a_guest_that_takes_nothing() {
    let machine = Machine::new(1);
    let [mut stuck, mut other] = [(); 2].map(|()| Kernel::boot(&machine));
    stuck.watch("data", "mine");
    for number in 0..100 {
        stuck.begin(MessageType::Write, 0, format!("data/{number}\0x").as_bytes());
    }
    for _ in 0..50 {
        stuck.produce();
        stuck.send(stuck.store.port).expect("it is open");
        assert!(machine.run(ENOUGH));
    }
    for number in 0..20 {
        other.write("data", &number.to_string()).expect("its own");
        assert_eq!(other.read("data"), Ok(number.to_string()));
    }
    stuck.pump();
    assert_eq!(stuck.events().len(), 100, "nothing was lost");
}

/// A guest that closes its end, or garbles its ring, is alone with that.
#[test]
fn a_guest_that_breaks_its_connection() {
    let machine = Machine::new(1);
    let [closed, mut garbled, mut other] = [(); 3].map(|()| Kernel::boot(&machine));
    closed.close(closed.store.port).expect("it is open");
    garbled.ring().store(REQ_PROD, 5000);
    garbled.send(garbled.store.port).expect("it is open");
    assert!(machine.run(ENOUGH));
    assert_ne!(garbled.ring().load(ERROR), 0, "it is told");
    garbled.pump();
    assert_eq!(other.read("name").as_deref(), Ok("guest"));
    machine.toolstack().write("/local/domain/1/control/shutdown", "x");
    assert!(machine.run(ENOUGH));
}
