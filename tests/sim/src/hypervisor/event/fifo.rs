//! The FIFO ABI: a word for each port, by which it is linked into a queue of its priority and virtual CPU.
//!
//! ```text
//! control block of a vCPU            event array
//! ready     a bit for each queue     word[port]: PENDING MASKED LINKED BUSY, and LINK,
//! head[16]  its first port           the next port of the queue; zero at its end
//! ```
//!
//! Xen appends and the guest takes off. Xen alone knows a queue's tail. It writes the new port into the tail's word if
//! the guest has not taken the tail off yet, and else into the head: the queue was empty.
//!
//! Xen follows no link, so whatever a guest writes into its words costs that guest its events, and nobody else
//! anything.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, mem::offset_of};

use xen_abi::{
    Errno,
    event_channel::fifo::{
        ControlBlock, EVENT_WORDS, EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_BITS, EVTCHN_FIFO_LINK_MASK,
        EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_NR_CHANNELS,
        EVTCHN_FIFO_PENDING, EVTCHN_FIFO_PRIORITY_MIN, EventWord, InitControl,
    },
    seam::{Gfn, PAGE_SIZE, Place},
};

use super::{
    Abi, Events, NO_SUCH_VCPU, PORT_NUMBER,
    port::{Port, QueueId},
};
use crate::{
    hypervisor::{
        call::Refusal,
        domain::Domain,
        shared::{Area, Shared},
    },
    ram::Ram,
    rule::rules,
};

rules! {
    /// A control block lies in one page, at a multiple of eight: otherwise `EINVAL`.
    CONTROL_BLOCK_PLACE: "xen/common/event_fifo.c", "evtchn_fifo_init_control";
    /// A virtual CPU's control block is set once, and stays until the channels are reset: `EINVAL` after that.
    CONTROL_BLOCK_ONCE: "xen/common/event_fifo.c", "map_control_block";
    /// Control blocks and event words are in RAM of the guest's: `EINVAL` for a frame with nothing behind it.
    FIFO_FRAME: "xen/common/event_fifo.c", "map_guest_page";
    /// There is no event array before there is a control block: `EOPNOTSUPP`.
    ARRAY_BEFORE_CONTROL: "xen/common/event_fifo.c", "evtchn_fifo_expand_array";
    /// The event array has 128 pages at most: `ENOSPC` for one more.
    ARRAY_FULL: "xen/common/event_fifo.c", "add_page_to_event_array";
    /// Only the FIFO ABI has priorities: `ENOSYS` with the other.
    NO_PRIORITIES: "xen/common/event_channel.h", "evtchn_port_set_priority";
    /// A closed port has no priority, nor one of Xen's own: `EACCES`.
    PRIORITY_OF_CLOSED: "xen/common/event_channel.h", "evtchn_port_set_priority";
    /// Priorities go from 0 to 15: `EINVAL` beyond.
    PRIORITY_RANGE: "xen/include/public/event_channel.h", "FIFO ABI";
}

const PENDING: EventWord = 1 << EVTCHN_FIFO_PENDING;
const MASKED: EventWord = 1 << EVTCHN_FIFO_MASKED;
const LINKED: EventWord = 1 << EVTCHN_FIFO_LINKED;
const BUSY: EventWord = 1 << EVTCHN_FIFO_BUSY;

/// Event words in a page, and pages in a full array.
#[expect(clippy::cast_possible_truncation, reason = "1024")]
const WORDS: u32 = EVENT_WORDS.count() as u32;
const PAGES: usize = (EVTCHN_FIFO_NR_CHANNELS / WORDS) as usize;

/// A domain that has gone over to this ABI.
#[derive(Clone, Debug)]
pub(crate) struct Fifo {
    /// The pages of the event array.
    array: Vec<Gfn>,
    /// Of all its virtual CPUs, whether they have a control block or not.
    queues: BTreeMap<u32, Queues>,
}

/// The queues of a virtual CPU.
#[derive(Clone, Debug, Default)]
struct Queues {
    block: Option<Block>,
    /// The last port of each, or one that was and that the guest has taken off since; zero before there was one.
    tails: [u32; EVTCHN_FIFO_MAX_QUEUES],
}

/// Where a control block is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) gfn: Gfn,
    pub(crate) offset: usize,
}

impl Block {
    fn new(at: &InitControl) -> Result<Self, Refusal> {
        let offset = at.offset as usize;
        match Place::<ControlBlock>::at(offset) {
            Some(_) if offset.is_multiple_of(8) => Ok(Self { gfn: Gfn(at.control_gfn), offset }),
            _ => Err(CONTROL_BLOCK_PLACE.refuses(Errno::EINVAL)),
        }
    }

    const fn ready(self) -> Shared<u32> {
        let ready = Place::new(self.offset + offset_of!(ControlBlock, ready));
        Area::Guest(self.gfn).at(ready)
    }

    const fn head(self, priority: u32) -> Shared<u32> {
        let head = Place::new(self.offset + offset_of!(ControlBlock, head) + 4 * priority as usize);
        Area::Guest(self.gfn).at(head)
    }
}

impl Fifo {
    fn new(vcpus: impl Iterator<Item = u32>) -> Self {
        Self { array: Vec::new(), queues: vcpus.map(|vcpu| (vcpu, Queues::default())).collect() }
    }

    /// A port's word, if the guest has given a page for it.
    fn word(&self, port: u32) -> Option<Shared<EventWord>> {
        let page = self.array.get((port / WORDS) as usize)?;
        Some(Area::Guest(*page).at(EVENT_WORDS.get((port % WORDS) as usize)?))
    }

    fn tail(&mut self, queue: QueueId) -> Option<&mut u32> {
        self.queues.get_mut(&queue.vcpu)?.tails.get_mut(queue.priority as usize)
    }

    /// Makes a port pending, and says which virtual CPU is to have an upcall for it.
    fn raise(&mut self, ram: &mut Ram, number: u32, port: &mut Port) -> Option<u32> {
        let Some(word) = self.word(number) else {
            port.recorded = true;
            return None;
        };
        let queue = QueueId { vcpu: port.vcpu, priority: port.priority };
        // The guest must not unmask a port before it has set the control block: the event is lost.
        let block = self.queues.get(&queue.vcpu)?.block?;
        let old = ram.update(word, |word| word | PENDING)?;
        if old & (MASKED | LINKED) != 0 {
            return None;
        }
        ram.update(word, |word| word | LINKED);
        // If it was the tail of its last queue, that queue is empty now, and the next port must not be linked behind
        // it.
        let last = self.tail(port.linked)?;
        if *last == number {
            *last = 0;
        }
        port.linked = queue;
        if self.append(ram, queue, number) {
            return None;
        }
        ram.store(block.head(queue.priority), &number);
        let bit = 1 << queue.priority;
        let ready = ram.update(block.ready(), |ready| ready | bit)?;
        (ready & bit == 0).then_some(queue.vcpu)
    }

    /// Puts a port at the end of a queue. It is in it if there was something before it.
    fn append(&mut self, ram: &mut Ram, queue: QueueId, number: u32) -> bool {
        let Some(tail) = self.tail(queue) else { return false };
        let before = std::mem::replace(tail, number);
        if before == 0 {
            return false;
        }
        let Some(word) = self.word(before) else { return false };
        let linked = ram.load(word).is_some_and(|word| word & LINKED != 0);
        if linked {
            ram.update(word, |word| word & !(BUSY | EVTCHN_FIFO_LINK_MASK) | number);
        }
        linked
    }

    /// Whether a port is in a queue. A closed one must not be bound before the guest has taken it off.
    pub(super) fn is_linked(&self, ram: &Ram, port: u32) -> bool {
        let word = self.word(port).and_then(|word| ram.load(word));
        word.is_some_and(|word| word & LINKED != 0)
    }

    /// The pages that Xen writes to, and what they are.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (Gfn, &'static str)> {
        let blocks = self.queues.values().filter_map(|queues| Some((queues.block?.gfn, "a control block")));
        self.array.iter().map(|page| (*page, "event words")).chain(blocks)
    }
}

impl Domain {
    pub(super) fn fifo_raise(&mut self, port: u32) {
        let Events { abi: Abi::Fifo(fifo), ports, .. } = &mut self.events else { return };
        let Some(at) = ports.get_mut(port) else { return };
        if let Some(vcpu) = fifo.raise(&mut self.ram, port, at) {
            self.upcall(vcpu);
        }
    }

    pub(super) fn fifo_unmask(&mut self, port: u32) {
        let Some(word) = self.event_word(port) else { return };
        let old = self.ram.update(word, |word| word & !MASKED);
        if old.is_some_and(|word| word & PENDING != 0) {
            self.fifo_raise(port);
        }
    }

    /// The guest takes it off its queue by itself, and finds nothing pending.
    pub(super) fn fifo_clear(&mut self, port: u32) {
        if let Some(word) = self.event_word(port) {
            self.ram.update(word, |word| word & !PENDING);
        }
    }

    pub(super) fn fifo_is_pending(&self, port: u32) -> bool {
        let word = self.event_word(port).and_then(|word| self.ram.load(word));
        word.is_some_and(|word| word & PENDING != 0)
    }

    fn event_word(&self, port: u32) -> Option<Shared<EventWord>> {
        match &self.events.abi {
            Abi::Fifo(fifo) => fifo.word(port),
            Abi::TwoLevel => None,
        }
    }

    /// `EVTCHNOP_init_control`. The first one leaves the two-level ABI, and keeps what is pending there for
    /// [`expand_array`](Self::expand_array).
    pub(super) fn init_control(&mut self, at: &mut InitControl) -> Result<(), Refusal> {
        #[expect(clippy::cast_possible_truncation, reason = "17")]
        let link_bits = EVTCHN_FIFO_LINK_BITS as u8;
        at.link_bits = link_bits;
        if !self.vcpus.contains_key(&at.vcpu) {
            return Err(NO_SUCH_VCPU.refuses(Errno::ENOENT));
        }
        let block = Block::new(at)?;
        let set = |fifo: &Fifo| fifo.queues.get(&at.vcpu).is_some_and(|queues| queues.block.is_some());
        if matches!(&self.events.abi, Abi::Fifo(fifo) if set(fifo)) {
            return Err(CONTROL_BLOCK_ONCE.refuses(Errno::EINVAL));
        }
        self.frame(block.gfn)?;
        if matches!(self.events.abi, Abi::TwoLevel) {
            self.leave_two_level();
        }
        if let Abi::Fifo(fifo) = &mut self.events.abi
            && let Some(queues) = fifo.queues.get_mut(&at.vcpu)
        {
            queues.block = Some(block);
        }
        Ok(())
    }

    fn leave_two_level(&mut self) {
        let ports = 1..self.events.ports.valid().min(Abi::TwoLevel.ports());
        for number in ports {
            let pending = self.two_level_is_pending(number);
            if let Some(port) = self.events.ports.get_mut(number) {
                port.recorded |= pending;
            }
            self.events.ports.default_priority(number);
        }
        self.events.abi = Abi::Fifo(Fifo::new(self.vcpus.keys().copied()));
    }

    /// `EVTCHNOP_expand_array`. What was recorded while there was no page is raised now.
    pub(super) fn expand_array(&mut self, page: Gfn) -> Result<(), Refusal> {
        let Abi::Fifo(fifo) = &self.events.abi else {
            return Err(ARRAY_BEFORE_CONTROL.refuses(Errno::EOPNOTSUPP));
        };
        if fifo.array.len() >= PAGES {
            return Err(ARRAY_FULL.refuses(Errno::ENOSPC));
        }
        self.frame(page)?;
        let Abi::Fifo(fifo) = &mut self.events.abi else { return Ok(()) };
        let pages = u32::try_from(fifo.array.len()).unwrap_or(u32::MAX);
        fifo.array.push(page);
        let first = pages * WORDS;
        for number in first..(first + WORDS).min(self.events.ports.valid()) {
            if self.events.ports.get(number).is_some_and(|port| port.recorded) {
                self.fifo_raise(number);
            }
        }
        Ok(())
    }

    /// `EVTCHNOP_set_priority`. A port that is in a queue stays there; its next event goes by the new one.
    pub(super) fn set_priority(&mut self, port: u32, priority: u32) -> Result<(), Refusal> {
        let has_priorities = matches!(self.events.abi, Abi::Fifo(_));
        let port = self.events.ports.get_mut(port).ok_or(PORT_NUMBER.refuses(Errno::EINVAL))?;
        if !has_priorities {
            return Err(NO_PRIORITIES.refuses(Errno::ENOSYS));
        }
        if !port.is_usable() {
            return Err(PRIORITY_OF_CLOSED.refuses(Errno::EACCES));
        }
        if priority > EVTCHN_FIFO_PRIORITY_MIN {
            return Err(PRIORITY_RANGE.refuses(Errno::EINVAL));
        }
        port.priority = priority;
        Ok(())
    }

    fn frame(&self, gfn: Gfn) -> Result<(), Refusal> {
        if self.ram.can_share(gfn) { Ok(()) } else { Err(FIFO_FRAME.refuses(Errno::EINVAL)) }
    }
}

// A control block that begins where a `Place` can begin lies in its page.
const _: () = assert!(size_of::<ControlBlock>() <= PAGE_SIZE);
