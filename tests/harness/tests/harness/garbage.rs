//! A xenstored that answers with nonsense, and what `xenbus::store` makes of it: an answer or an error with a name,
//! and no panic, whatever comes.
#![forbid(unsafe_code)]

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use kexec::{irql::Dispatch, platform::mock::keep};
use xen_abi::{
    hvm::params::CallbackVia,
    io::xs_wire::{MessageType, XENSTORE_PAYLOAD_MAX, XsError},
};
use xen_harness::{Player, Rig};
use xen_sim::{Fault as MachineFault, Guest, GuestConfig, Peer, xenstored::Fault};
use xenbus::{
    epoch::Epochs,
    event::{Config, Events, Slot, Upcall, Vcpu},
    store::{Asked, PATIENCE, Store, StoreError, Violation, Xenstore},
};

/// What a reader found: the value of `name`, and of `domid` after that; and how many replies were to nothing.
type Found = ([Result<Vec<u8>, StoreError>; 2], u32);

/// A guest's connection to the store.
struct Reader {
    guest: Guest,
    store: Store<Guest>,
    events: Events<Guest>,
}

impl Reader {
    fn new(guest: Guest) -> Self {
        let events = Events::new(keep([const { Slot::new() }; 8]), keep([Vcpu::new()]));
        Self { guest, store: Store::new(), events }
    }

    fn upcall(&self) {
        while self.events.upcall(0, 8) == Upcall::More {}
    }

    async fn read(&self, at: &Dispatch) -> Found {
        let mut room = [0; XENSTORE_PAYLOAD_MAX as usize];
        let first = self.store.read(at, "name", &mut room).await.map(<[u8]>::to_vec);
        let second = self.store.read(at, "domid", &mut room).await.map(<[u8]>::to_vec);
        ([first, second], self.store.strays(at))
    }
}

/// Reads, and serves the store meanwhile.
async fn read(at: &mut Dispatch, reader: &'static Reader) -> Found {
    let config =
        Config { vcpus: &[0], callback: CallbackVia::Gsi(28), fifo: true, epoch: Epochs::new().now() };
    reader.events.start(at, reader.guest.clone(), config).expect("there is room");
    let port = reader.store.connect(at, &reader.guest).expect("there is a store");
    let channel = reader.events.fixed(at, port).expect("there is a slot");
    let listen = pin!(async {
        while channel.wait(at).await.is_ok() {
            reader.store.notify();
        }
    });
    let serve = pin!(reader.store.serve(at));
    let found = match select(pin!(reader.read(at)), select(listen, serve)).await {
        Either::Left((found, _)) => found,
        Either::Right(_) => unreachable!("it is served for ever"),
    };
    reader.store.disconnect(at);
    found
}

/// Has a guest read two keys of a xenstored at which something is wrong.
fn found(seed: u64, wrong: impl FnOnce(&Rig)) -> Found {
    let mut player = Player::new(seed);
    let rig = Rig::new(&mut player, GuestConfig::default());
    let driver = rig.driver(&mut player, "guest");
    let slots = rig.pool::<16384, 1>(&mut player);
    let reader: &'static Reader = keep(Reader::new(rig.guest().clone()));
    rig.guest().on_upcall(|_, _| reader.upcall());
    wrong(&rig);
    let task = driver.spawn(slots, read, reader).expect("a slot is free");
    while !task.is_finished() && player.step(Duration::from_mins(10)) {}
    let found = task.try_take().expect("it has ended").expect("nobody has cancelled it");
    assert_eq!(player.close(), Ok(()));
    found
}

/// Each form of nonsense, once, in the reply to the first of two requests. What cannot be told from a right reply is
/// one; what can be is an error; the connection is broken for good only if the end of a message cannot be found any
/// more.
#[test]
fn each_form() {
    let right = || Ok(b"guest".to_vec());
    let asked = Asked::new(MessageType::Read, "name");
    let late = Err(StoreError::TimedOut { asked, after: PATIENCE });
    let other = |kind, transaction| Err(StoreError::Mismatch { asked, kind, transaction });
    let read = MessageType::Read as u32;
    let cases = [
        (Fault::Refuse(XsError::EAGAIN), Err(StoreError::Refused { asked, error: XsError::EAGAIN }), 0),
        (Fault::Payload(b"\xFF\0\xFF".to_vec()), Ok(b"\xFF\0\xFF".to_vec()), 0),
        (Fault::Payload(vec![b'x'; 4096]), Ok(vec![b'x'; 4096]), 0),
        (Fault::Truncate(2), Ok(b"gu".to_vec()), 0),
        (Fault::Truncate(0), Ok(Vec::new()), 0),
        (Fault::RequestId(77), late.clone(), 1),
        (Fault::TransactionId(9), other(read, 9), 0),
        (Fault::Type(MessageType::Directory as u32), other(1, 0), 0),
        (Fault::Type(MessageType::WatchEvent as u32), other(15, 0), 0),
        (Fault::Type(u32::MAX), other(u32::MAX, 0), 0),
        (
            Fault::Type(MessageType::Error as u32),
            Err(StoreError::Unnamed { asked, answer: b"guest"[..].into() }),
            0,
        ),
        (Fault::Swallow, late, 0),
        (Fault::Repeat, right(), 1),
    ];
    for (fault, expected, strays) in cases {
        let (found, lost) = found(1, |rig| assert!(rig.machine().distort(rig.guest(), fault.clone())));
        assert_eq!(found, [expected, Ok(b"1".to_vec())], "{fault:?}");
        assert_eq!(lost, strays, "{fault:?}");
    }
    for length in [4097, u32::MAX] {
        let ([first, second], _) =
            found(1, |rig| assert!(rig.machine().distort(rig.guest(), Fault::Length(length))));
        let violation = Err(StoreError::Violation(Violation::Length(length)));
        assert_eq!([first, second], [violation.clone(), violation], "nothing is asked any more");
    }
    // The rest of the message is taken for the next, which does not come to its end.
    let ([first, second], _) = found(1, |rig| assert!(rig.machine().distort(rig.guest(), Fault::Length(2))));
    assert_eq!(first, Ok(b"gu".to_vec()));
    assert!(second.is_err(), "{second:?}");
}

/// Any of them, as the seeds say: the guest always comes to its end.
#[test]
fn any_form() {
    let mut errors = 0;
    for seed in 0..64 {
        let (found, _) = found(seed, |rig| {
            rig.machine().inject(rig.guest(), MachineFault::Garbage(Peer::Xenstored));
        });
        errors += u32::from(found[0].is_err());
    }
    assert!((10..64).contains(&errors), "{errors} of 64 were found out");
}

/// A xenstored that ends the connection, or hangs, is waited for as long as is said, and no longer.
#[test]
fn nobody_answers() {
    for fault in [MachineFault::Kill(Peer::Xenstored), MachineFault::Wedge(Peer::Xenstored)] {
        let (found, _) = found(1, |rig| rig.machine().inject(rig.guest(), fault));
        assert!(found.iter().all(Result::is_err), "{fault}: {found:?}");
    }
}
