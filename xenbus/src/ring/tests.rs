//! The frontend's end against a backend's, which is written from `io/ring.h` alone.
#![forbid(unsafe_code)]

use core::ops::Deref;
use std::{collections::VecDeque, sync::Arc, vec::Vec as List};

use heapless::Vec;
use kexec::platform::{
    mock::{Mock, Plan},
    thread::passive,
};
use proptest::prelude::*;
use xen_abi::{
    io::ring::{REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, slot_offset},
    seam::{Access, Memory, PAGE_SIZE},
};
use xen_sim::{Guest, GuestConfig, GuestFrame, Machine};

use super::*;

/// A page that both ends have.
#[derive(Clone, Debug)]
struct Shared(Arc<GuestFrame>);

impl Deref for Shared {
    type Target = GuestFrame;

    fn deref(&self) -> &GuestFrame {
        &self.0
    }
}

/// 112 bytes, as a request of blkif: in a ring of several pages, some lie in two.
type Request = [u64; 14];
type Response = [u32; 4];
type Ring = Front<Shared, Request, Response, 4>;

/// The backend's end.
struct Back {
    pages: List<Shared>,
    slots: u32,
    consumed: u32,
    produced: u32,
}

fn ring(guest: &Guest, pages: usize, index: u32) -> (Ring, Back) {
    let pages: Vec<Shared, 4> =
        (0..pages).map(|_| Shared(Arc::new(guest.allocate().expect("there is RAM")))).collect();
    let front = Ring::from(pages.clone(), index).expect("there is room for a slot");
    let back = Back { pages: pages.to_vec(), slots: front.slots(), consumed: index, produced: index };
    (front, back)
}

/// At the level at which rings are touched.
fn dispatch<R>(work: impl FnOnce(&Dispatch) -> R) -> R {
    passive(|level| level.raised(&Mock::<Dispatch>::new(Plan::CALM), |at| work(at)))
}

fn guest() -> Guest {
    Machine::new(1).create(GuestConfig::default())
}

impl Back {
    fn bytes(&self, index: u32) -> impl Iterator<Item = (&Shared, usize)> {
        let begins = slot_offset(size_of::<Request>(), (index % self.slots) as usize);
        (begins..begins + size_of::<Request>()).map(|byte| (&self.pages[byte / PAGE_SIZE], byte % PAGE_SIZE))
    }

    /// `RING_COPY_REQUEST`, for each that there is.
    fn requests(&mut self) -> List<u64> {
        let made = self.pages[0].load(REQ_PROD);
        let mut requests = List::new();
        while self.consumed != made {
            let mut request = Request::default();
            for (byte, (page, offset)) in request.as_mut_bytes().iter_mut().zip(self.bytes(self.consumed)) {
                page.read_bytes(offset, core::slice::from_mut(byte)).expect("it is in the page");
            }
            assert!(request.iter().all(|word| *word == request[0]), "in one piece: {request:?}");
            requests.push(request[0]);
            self.consumed = self.consumed.wrapping_add(1);
        }
        requests
    }

    /// `RING_GET_RESPONSE`, and `RING_PUSH_RESPONSES_AND_CHECK_NOTIFY`.
    fn respond(&mut self, value: u32) -> bool {
        let response: Response = [value; 4];
        for (byte, (page, offset)) in response.as_bytes().iter().zip(self.bytes(self.produced)) {
            page.write_bytes(offset, &[*byte]).expect("it is in the page");
        }
        let before = self.produced;
        self.produced = before.wrapping_add(1);
        self.pages[0].store(RSP_PROD, self.produced);
        self.produced.wrapping_sub(self.pages[0].load(RSP_EVENT)) < self.produced.wrapping_sub(before)
    }

    /// `RING_FINAL_CHECK_FOR_REQUESTS`.
    fn rest(&self) -> bool {
        self.pages[0].store(REQ_EVENT, self.consumed.wrapping_add(1));
        self.pages[0].load(REQ_PROD) != self.consumed
    }
}

/// One of the things that either end can do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    Publish,
    Take,
    Rest,
    BackTakes,
    BackResponds,
    BackRests,
}

fn steps() -> impl Strategy<Value = List<Step>> {
    use Step::*;
    let step = prop::sample::select(
        &[Put, Put, Put, Publish, Take, Take, Rest, BackTakes, BackResponds, BackRests][..],
    );
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Whatever either end does and when: each request gets there once, in order, each response comes back, an end that
    /// rests is notified, and the indices may pass 2^32 meanwhile.
    #[test]
    fn requests_and_responses_get_there(pages in 0..3_u32, first in prop::sample::select(&[0, u32::MAX - 20, u32::MAX / 2][..]), steps in steps()) {
        let (mut front, mut back) = ring(&guest(), 1 << pages, first);
        dispatch(|at| {
            let (mut sent, mut open) = (VecDeque::new(), VecDeque::new());
            let (mut taken, mut answered) = (0_u64, VecDeque::new());
            // An end that rests is woken by a notification.
            let (mut back_sleeps, mut front_sleeps) = (false, false);
            let mut number = 0_u64;
            for step in steps {
                match step {
                    Step::Put => {
                        let fits = front.free() > 0;
                        prop_assert_eq!(front.put(at, &[number; 14]), fits);
                        if fits {
                            sent.push_back(number);
                            number += 1;
                        }
                    }
                    Step::Publish => {
                        let all = sent.len() as u64 + taken;
                        if front.publish(at) {
                            back_sleeps = false;
                        }
                        prop_assert!(!back_sleeps || all == taken, "it sleeps over what was published");
                    }
                    Step::BackTakes => {
                        let requests = back.requests();
                        for request in requests {
                            prop_assert_eq!(sent.pop_front(), Some(request));
                            open.push_back(request);
                            taken += 1;
                        }
                    }
                    Step::BackResponds => {
                        if let Some(request) = open.pop_front() {
                            let value = u32::try_from(request).expect("few enough");
                            if back.respond(value) {
                                front_sleeps = false;
                            }
                            prop_assert!(!front_sleeps, "it sleeps over a response");
                            answered.push_back(value);
                        }
                    }
                    Step::BackRests => back_sleeps = !back.rest(),
                    Step::Take => {
                        let response = front.take(at).expect("the backend does nothing wrong");
                        prop_assert_eq!(response, answered.pop_front().map(|value| [value; 4]));
                    }
                    Step::Rest => {
                        let more = front.rest(at).expect("the backend does nothing wrong");
                        prop_assert_eq!(more, !answered.is_empty());
                        front_sleeps = !more;
                    }
                }
                prop_assert!(front.free() + front.open() == front.slots());
            }
            Ok(())
        })?;
    }

    /// An index that is anything but what it can be is found out, and nothing is taken after it.
    #[test]
    fn an_index_that_cannot_be(first in any::<u32>(), puts in 0..33_u32, published in any::<bool>(), new in prop_oneof![0..40_u32, any::<u32>()]) {
        let (mut front, back) = ring(&guest(), 1, first);
        dispatch(|at| {
            for number in 0..puts {
                front.put(at, &[u64::from(number); 14]);
            }
            let published = if published { let _ = front.publish(at); puts.min(front.slots()) } else { 0 };
            let produced = first.wrapping_add(new);
            back.pages[0].store(RSP_PROD, produced);
            if new > published {
                let overrun = Overrun { produced, taken: first, published: first.wrapping_add(published) };
                prop_assert_eq!(front.take(at), Err(overrun));
                prop_assert_eq!(front.rest(at), Err(overrun));
                prop_assert_eq!(front.take(at), Err(overrun));
            } else {
                for _ in 0..new {
                    prop_assert!(front.take(at).expect("that many are possible").is_some());
                }
                prop_assert_eq!(front.take(at), Ok(None));
                // It does not go back.
                back.pages[0].store(RSP_PROD, produced.wrapping_sub(1));
                prop_assert!(front.take(at).is_err());
            }
            Ok(())
        })?;
    }

    /// A number is believed once, by what waits for it, whatever numbers come: as in a map that forgets.
    #[test]
    fn numbers_are_believed_once(script in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u64>()), 1..300)) {
        let mut pending = Pending::<u64, 5>::new();
        let mut model = std::collections::BTreeMap::new();
        let mut old = List::new();
        for (is_insert, choice, noise) in script {
            if is_insert {
                match pending.insert(noise) {
                    Ok(number) => {
                        prop_assert!(!old.contains(&number), "{number:#x} was used before");
                        prop_assert!(model.insert(number, noise).is_none());
                        old.push(number);
                    }
                    Err(Full(what)) => prop_assert!(what == noise && model.len() == 5),
                }
            } else {
                let known = old.get(usize::from(choice)).copied();
                let number = known.unwrap_or(noise);
                prop_assert_eq!(pending.get_mut(number).copied(), model.get(&number).copied());
                prop_assert_eq!(pending.take(number).ok(), model.remove(&number));
            }
            prop_assert_eq!(pending.len(), model.len());
        }
        let mut left: List<u64> = pending.drain().collect();
        left.sort_unstable();
        let mut expected: List<u64> = model.into_values().collect();
        expected.sort_unstable();
        prop_assert_eq!(left, expected);
        prop_assert!(pending.is_empty());
    }
}

/// A protocol with short numbers sees the lowest bits, and what was answered stays answered until they come round
/// again.
#[test]
fn short_numbers() {
    let mut pending = Pending::<u32, 256>::new();
    let mut before = None;
    for round in 0..600 {
        let number = pending.insert(round).expect("there is room") & 0xFFFF;
        if let Some(before) = before {
            assert_eq!(
                pending.take_short(before, 16),
                Err(NotPending(before)),
                "answered in the round before"
            );
        }
        assert_eq!(
            pending.take_short(number | 0x1_0000, 16),
            Err(NotPending(number | 0x1_0000)),
            "no such number"
        );
        assert_eq!(pending.take_short(number, 16), Ok(round));
        before = Some(number);
    }
}

/// Sizes at which there is no ring.
#[test]
fn no_pages_no_ring() {
    assert!(Ring::new(Vec::new()).is_none());
}
