//! A page that Xen writes while it is read.
#![expect(unsafe_code, reason = "a page of a test's own, between whose bytes Xen writes")]

use std::{
    mem::{offset_of, size_of},
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use proptest::prelude::*;
use xen_abi::{
    seam::{Access, Beyond, Gfn, PAGE_SIZE, Place, Port, Processor, Word},
    shared_info::{VCPU_INFO, VcpuInfos, VcpuTimeInfo, WC_NSEC, WC_SEC, WC_SEC_HI, WC_VERSION},
};
use xenbus::clock::{ATTEMPTS, ClockError, SystemTime, Zone, stamp, system_time, wall_clock};
use zerocopy::IntoBytes;

use crate::at_dispatch;

/// What Xen writes in one piece: where, and which bytes.
type Step = (usize, Vec<u8>);

/// A page to which a writer does so many steps before each byte, or word, that is read. The last number is for all
/// after it.
struct Written {
    bytes: Mutex<Vec<u8>>,
    steps: Mutex<Box<dyn Iterator<Item = Step> + Send>>,
    pace: Vec<usize>,
    reads: AtomicUsize,
}

impl Written {
    fn new(steps: impl Iterator<Item = Step> + Send + 'static, pace: Vec<usize>) -> Self {
        Self {
            bytes: Mutex::new(vec![0; PAGE_SIZE]),
            steps: Mutex::new(Box::new(steps)),
            pace,
            reads: AtomicUsize::new(0),
        }
    }

    /// Lets the writer do these steps.
    fn write(&self, steps: usize) {
        let mut page = self.bytes.lock().expect("nobody panics with it");
        let mut writer = self.steps.lock().expect("nobody panics with it");
        for (offset, bytes) in writer.by_ref().take(steps) {
            page[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// Something is read, in one piece.
    fn look(&self, place: Range<usize>, into: &mut [u8]) {
        let read = self.reads.fetch_add(1, Relaxed);
        self.write(self.pace[read.min(self.pace.len() - 1)]);
        into.copy_from_slice(&self.bytes.lock().expect("nobody panics with it")[place]);
    }
}

// SAFETY: reads are copies, and nothing else is done.
unsafe impl Access for Written {
    fn gfn(&self) -> Gfn {
        Gfn(1)
    }

    fn load<W: Word>(&self, place: Place<W>) -> W {
        let mut word = W::new_zeroed();
        self.look(place.offset()..place.offset() + size_of::<W>(), word.as_mut_bytes());
        word
    }

    fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), Beyond> {
        for (at, byte) in (offset..).zip(into) {
            self.look(at..at + 1, std::slice::from_mut(byte));
        }
        Ok(())
    }

    fn store<W: Word>(&self, _: Place<W>, _: W) {
        unreachable!("a clock is only read")
    }

    fn swap<W: Word>(&self, _: Place<W>, _: W) -> W {
        unreachable!("a clock is only read")
    }

    fn fetch_or<W: Word>(&self, _: Place<W>, _: W) -> W {
        unreachable!("a clock is only read")
    }

    fn fetch_and<W: Word>(&self, _: Place<W>, _: W) -> W {
        unreachable!("a clock is only read")
    }

    fn compare_exchange<W: Word>(&self, _: Place<W>, _: W, _: W) -> Result<W, W> {
        unreachable!("a clock is only read")
    }

    fn write_bytes(&self, _: usize, _: &[u8]) -> Result<(), Beyond> {
        unreachable!("a clock is only read")
    }
}

/// The clocks of two virtual CPUs, somewhere in a page, and the one that is written.
const CLOCKS: VcpuInfos = VcpuInfos::new(1024, 2);
const VCPU: usize = 1;

/// The n-th that Xen writes: no two have a byte in common that counts.
fn nth_clock(n: u32) -> VcpuTimeInfo {
    let byte = u8::try_from(n % 100 + 1).expect("small");
    VcpuTimeInfo {
        version: n * 2,
        tsc_timestamp: u64::from_le_bytes([byte; 8]),
        system_time: u64::from_le_bytes([byte; 8]),
        tsc_to_system_mul: u32::from_le_bytes([byte; 4]),
        tsc_shift: byte.cast_signed(),
        flags: byte,
        ..VcpuTimeInfo::default()
    }
}

/// The steps by which Xen writes one clock after the other, from the first on.
fn clock_steps() -> impl Iterator<Item = Step> {
    let start = CLOCKS.time.get(VCPU).expect("there are two").offset();
    (1..).flat_map(move |n| {
        let clock = nth_clock(n);
        let field = move |offset: usize, bytes: &[u8]| (start + offset, bytes.to_vec());
        [
            field(offset_of!(VcpuTimeInfo, version), (clock.version - 1).as_bytes()),
            field(offset_of!(VcpuTimeInfo, tsc_timestamp), clock.tsc_timestamp.as_bytes()),
            field(offset_of!(VcpuTimeInfo, system_time), clock.system_time.as_bytes()),
            field(offset_of!(VcpuTimeInfo, tsc_to_system_mul), clock.tsc_to_system_mul.as_bytes()),
            field(offset_of!(VcpuTimeInfo, tsc_shift), clock.tsc_shift.as_bytes()),
            field(offset_of!(VcpuTimeInfo, flags), clock.flags.as_bytes()),
            field(offset_of!(VcpuTimeInfo, version), clock.version.as_bytes()),
        ]
    })
}

/// The n-th wall clock that Xen writes: seconds in two halves, and nanoseconds.
fn nth_wall(n: u32) -> [u32; 3] {
    [n, n + 1000, n + 2000]
}

fn wall_steps() -> impl Iterator<Item = Step> {
    (1_u32..).flat_map(|n| {
        let [low, high, nanoseconds] = nth_wall(n);
        let words = [
            (WC_VERSION, n * 2 - 1),
            (WC_SEC, low),
            (WC_NSEC, nanoseconds),
            (WC_SEC_HI, high),
            (WC_VERSION, n * 2),
        ];
        words.map(|(place, word)| (place.offset(), word.as_bytes().to_vec()))
    })
}

/// How many steps come before each read, for a while, and then none.
fn pace() -> impl Strategy<Value = Vec<usize>> {
    let steps = prop_oneof![8 => Just(0), 2 => 1..3_usize, 1 => 3..20_usize];
    prop::collection::vec(steps, 1..200).prop_map(|mut pace| {
        pace.push(0);
        pace
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    /// Wherever Xen's writes fall between the bytes that are read: what is believed is what Xen has written as a whole.
    #[test]
    fn a_clock_is_one_that_xen_wrote(pace in pace()) {
        let page = Written::new(clock_steps(), pace);
        page.write(7);
        match at_dispatch(|at| stamp(at, &page, CLOCKS, VCPU)) {
            Ok(clock) => prop_assert_eq!(clock, nth_clock(clock.version / 2)),
            Err(error) => prop_assert!(matches!(error, ClockError::Unsettled(_)), "{}", error),
        }
    }

    /// So it is with the wall clock.
    #[test]
    fn a_wall_clock_is_one_that_xen_wrote(pace in pace()) {
        let page = Written::new(wall_steps(), pace);
        page.write(5);
        match at_dispatch(|at| wall_clock(at, &page)) {
            Ok(wall) => {
                let nanoseconds = wall.at(SystemTime(0), Zone::Utc).unix_nanoseconds();
                let seconds = nanoseconds / 1_000_000_000;
                let n = u32::try_from(nanoseconds % 1_000_000_000 - 2000).expect("small");
                let [low, high, _] = nth_wall(n).map(i128::from);
                prop_assert_eq!(seconds, high << 32 | low);
            }
            Err(error) => prop_assert!(matches!(error, ClockError::Unsettled(_)), "{}", error),
        }
    }
}

/// A processor with the page of its clock. Before its counter is read for the first time, the virtual CPU goes on on
/// another one, with another counter: Xen writes the clock anew.
struct Moving<'p> {
    page: &'p Written,
    counters: Mutex<Vec<u64>>,
}

// SAFETY: nothing is touched but what a test has.
unsafe impl Processor for Moving<'_> {
    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        unreachable!("the time is told without leaf {leaf:#x}")
    }

    fn timestamp(&self) -> u64 {
        let mut counters = self.counters.lock().expect("nobody panics with it");
        self.page.write(if counters.len() == 2 { 7 } else { 0 });
        counters.pop().expect("it is read twice")
    }

    unsafe fn write_msr(&self, register: u32, _: u64) {
        unreachable!("nor by a register, {register:#x}")
    }

    unsafe fn read_port<W: Port>(&self, port: u16) -> W {
        unreachable!("nor by port {port:#x}")
    }

    unsafe fn write_port<W: Port>(&self, port: u16, _: W) {
        unreachable!("nor by port {port:#x}")
    }
}

/// The counter of one processor says nothing by the clock of another: both are read again.
#[test]
fn clock_and_counter_are_one_processors() {
    let page = Written::new(clock_steps(), vec![0]);
    page.write(7);
    let ahead = |n| nth_clock(n).tsc_timestamp + 1000;
    let processor = Moving { page: &page, counters: Mutex::new(vec![ahead(2), ahead(1)]) };
    let time = at_dispatch(|at| system_time(at, &processor, &page, CLOCKS, VCPU));
    assert_eq!(time, Ok(SystemTime::at(&nth_clock(2), ahead(2))));
    assert_ne!(time, Ok(SystemTime::at(&nth_clock(2), ahead(1))), "the clocks differ enough");
}

/// A writer that never comes to an end costs a known number of reads, and is named; the next read finds the clock
/// if the writer has stopped.
#[test]
fn a_writer_without_an_end() {
    // It stops in the middle of a clock, and does not go on.
    let stuck = Written::new(clock_steps(), vec![0]);
    stuck.write(8);
    assert_eq!(at_dispatch(|at| stamp(at, &stuck, CLOCKS, VCPU)), Err(ClockError::Unsettled(3)));
    assert_eq!(
        stuck.reads.load(Relaxed),
        usize::try_from(ATTEMPTS).unwrap(),
        "the version, and nothing else"
    );
    stuck.write(6);
    assert_eq!(at_dispatch(|at| stamp(at, &stuck, CLOCKS, VCPU)), Ok(nth_clock(2)));

    // Each version is even, and there is another one each time.
    let busy = Written::new(wall_steps(), vec![5]);
    let outcome = at_dispatch(|at| wall_clock(at, &busy));
    assert!(matches!(outcome, Err(ClockError::Unsettled(_))), "{outcome:?}");
    let most = usize::try_from(ATTEMPTS).unwrap() * 5;
    assert_eq!(busy.reads.load(Relaxed), most, "two versions and three words");
}

/// A page in which Xen has not written yet says nothing, not that it is the beginning of time; and a virtual CPU that
/// has no place in it has no clock there.
#[test]
fn no_clock_at_all() {
    let empty = Written::new(std::iter::empty(), vec![0]);
    at_dispatch(|at| {
        assert_eq!(stamp(at, &empty, VCPU_INFO, 31), Err(ClockError::Unwritten));
        assert_eq!(wall_clock(at, &empty), Err(ClockError::Unwritten));
        for vcpu in [32, usize::MAX] {
            assert_eq!(stamp(at, &empty, VCPU_INFO, vcpu), Err(ClockError::NoVcpu(vcpu)));
        }
    });
}

/// Whoever reads a log learns which clock, and what to do.
#[test]
fn errors_say_what_to_do() {
    for (error, words) in [
        (ClockError::NoVcpu(40), ["40", "register"]),
        (ClockError::Unsettled(17), ["17", "ask again"]),
        (ClockError::Unwritten, ["not written", "renewed"]),
    ] {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}
