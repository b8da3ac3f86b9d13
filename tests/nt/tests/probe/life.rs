//! The life of a device, from loading its driver to unloading it.

use std::time::Duration;

use nt_probe::request::{IOCTL_CRIME, IOCTL_ECHO, IOCTL_TOUR, IOCTL_WAIT};
use nt_sim::{Device, Failure, Nt, Options, Request};
use nt_sys::{NTSTATUS, REG_DWORD, STATUS_DELETE_PENDING, STATUS_NOT_SUPPORTED, STATUS_SUCCESS};

/// Power, WMI and Plug and Play IRPs that the driver passes on: `IRP_MN_SET_POWER`, `IRP_MN_QUERY_ALL_DATA`,
/// `IRP_MN_QUERY_CAPABILITIES`, and one that nobody knows.
const SET_POWER: u8 = 2;
const QUERY_ALL_DATA: u8 = 0;
const QUERY_CAPABILITIES: u8 = 9;
const UNKNOWN: u8 = 0x30;

/// What is left of a life.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) digest: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) said: Vec<String>,
    /// Requests that did not get the answer that was theirs.
    pub(crate) wrong_answers: usize,
}

/// Lives without a crime, and nothing is wrong.
pub(crate) fn innocent(options: &Options) -> Memory {
    let memory = live(options, "").expect("nothing is wrong");
    assert_eq!(memory.wrong_answers, 0, "{options}");
    memory
}

/// Lives as the service that commits this crime; none is the empty one.
pub(crate) fn live(options: &Options, crime: &str) -> Result<Memory, Failure> {
    let nt = Nt::boot(options.clone());
    let driver = nt.load_as("probe", &format!("probe-{crime}"))?;
    let device = driver.add_device()?;
    device.start()?;

    // Somewhere in the tour, or after it.
    nt.xen().upcall();
    let tour = device.control(IOCTL_TOUR, &[], 4)?.wait()?;
    assert_eq!(tour.output, [0; 4], "the number of a fact in the probe's `tour.rs`; {options}");
    assert_eq!(device.value("Tour"), Some((REG_DWORD, vec![7, 0, 0, 0])), "{options}");
    let echo = device.control(IOCTL_ECHO, b"hello", 5)?.wait()?;
    assert_eq!((echo.status, echo.output.as_slice()), (STATUS_SUCCESS, b"hello".as_slice()), "{options}");

    let waiting = wait_for_upcalls(&device, 0..8)?;
    for _ in 0..waiting.len() {
        nt.xen().upcall();
        nt.settle()?;
    }
    let mut wrong_answers = wrong(waiting, &[STATUS_SUCCESS])?;

    // Two, so that one can be the other's victim.
    let crimes = [device.control(IOCTL_CRIME, &[], 4)?, device.control(IOCTL_CRIME, &[], 4)?];
    crimes.into_iter().try_for_each(|crime| crime.wait().map(drop))?;
    nt.pass(Duration::from_millis(40))?;
    let ticks = device.control(IOCTL_CRIME, &[], 4)?.wait()?;
    assert_ne!(ticks.output, [0; 4], "the timer has not ticked; {options}");

    assert_eq!(device.power(SET_POWER)?, STATUS_SUCCESS, "{options}");
    assert_eq!(device.system_control(QUERY_ALL_DATA)?, STATUS_NOT_SUPPORTED, "{options}");
    assert_eq!(device.plug_and_play(QUERY_CAPABILITIES)?, STATUS_SUCCESS, "{options}");
    assert_eq!(device.plug_and_play(UNKNOWN)?, STATUS_NOT_SUPPORTED, "{options}");
    device.almost_remove()?;

    let late = wait_for_upcalls(&device, 8..14)?;
    nt.xen().upcall();
    if options.seed.is_multiple_of(2) {
        device.remove()?;
    } else {
        device.surprise_remove()?;
    }
    wrong_answers += wrong(late, &[STATUS_SUCCESS, STATUS_DELETE_PENDING])?;
    driver.unload()?;

    let memory = Memory { digest: nt.digest(), trace: nt.trace(), said: nt.said(), wrong_answers };
    nt.finish()?;
    Ok(memory)
}

/// Requests that the next upcall completes, each with an input of its own.
fn wait_for_upcalls(device: &Device, numbers: std::ops::Range<u8>) -> Result<Vec<(u8, Request)>, Failure> {
    numbers.map(|number| Ok((number, device.control(IOCTL_WAIT, &[number; 4], 4)?))).collect()
}

/// How many requests ended with another status than these, or succeeded with an output that is not their input.
fn wrong(requests: Vec<(u8, Request)>, statuses: &[NTSTATUS]) -> Result<usize, Failure> {
    let mut wrong = 0;
    for (number, request) in requests {
        let done = request.wait()?;
        let is_answer = done.status != STATUS_SUCCESS || done.output == [number; 4];
        wrong += usize::from(!(is_answer && statuses.contains(&done.status)));
    }
    Ok(wrong)
}
