//! On a processor of a maker that nobody knows, Xen's hypercall page tells how hypercalls are made.

use nt_sim::{
    Device, Dump, Options,
    machine::Hypercall,
    xen::{self, Mood, Vendor},
};
use nt_sys::{STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS};

use super::{XEN_VERSION, ask, ask_often, each, expect_answer, live, once, runs, start};

/// Either instruction, where Xen's leaves are the first and where they come after Viridian's.
fn processors() -> impl Iterator<Item = xen::Config> {
    let instructions = [Hypercall::Vmcall, Hypercall::Vmmcall].into_iter();
    instructions.flat_map(|instruction| {
        let vendor = Vendor::Unknown { instruction };
        [0x4000_0000, 0x4000_0100].map(|base| xen::Config { vendor, base, ..xen::Config::DEFAULT })
    })
}

/// Found, asked and removed like everywhere else; its page is written by Xen once.
#[test]
fn a_life_on_an_unknown_processor() {
    for xen in processors() {
        each(runs(10).map(|options| Options { xen, ..options }), |nt| {
            live(nt, |device| {
                let said = nt.said();
                let expected = format!("Xen 4.17, CPUID leaf {:#x}", xen.base);
                assert!(said.iter().any(|line| line.contains(&expected)), "{said:?}");
                let requests = ask_often(device, 4)?;
                nt.xen().upcall();
                requests.into_iter().try_for_each(expect_answer)?;
                assert_eq!(nt.xen().calls(XEN_VERSION), 5, "one for each request, and the first");
                let asks = nt.trace().iter().filter(|line| line.contains(" wrmsr(")).count();
                assert_eq!(asks, 1, "what is known need not be asked");
                Ok(())
            })
        });
    }
}

/// Devices that start at the same time have one page between them: each finds it as it needs it.
#[test]
fn devices_that_start_together_share_the_page() {
    let mut waits = 0;
    for options in processors().flat_map(|xen| runs(10).map(move |options| Options { xen, ..options })) {
        waits += once(options, |nt| {
            let driver = nt.load("xenbus")?;
            let devices = [driver.add_device()?, driver.add_device()?, driver.add_device()?];
            let starts: Result<Vec<_>, _> = devices.iter().map(Device::begin_start).collect();
            for start in starts? {
                assert_eq!(start.wait()?.status, STATUS_SUCCESS);
            }
            for device in devices {
                let request = ask(&device)?;
                nt.xen().upcall();
                expect_answer(request)?;
                device.remove()?;
            }
            driver.unload()?;
            let waits = |line: &&String| line.contains(" KeDelayExecutionThread(");
            Ok(nt.trace().iter().filter(waits).count())
        });
    }
    assert!(waits > 20, "only {waits} times was the page with another device: the test has lost its point");
}

/// What is not what Xen writes is not executed: the device does not start, and its maker's name and the bytes are said. The
/// last of these is a Xen that writes nothing.
#[test]
fn does_not_start_with_a_strange_page() {
    for xen in processors() {
        for byte in [0xCC, 0x0F, 0x00] {
            let xen = xen::Config { mood: Mood::Scrawling { byte }, ..xen };
            for options in runs(5) {
                let (status, said) = start(Options { xen, ..options });
                assert_eq!(status, STATUS_NO_SUCH_DEVICE, "{xen:?}");
                let bytes = format!(" {byte:02x}").repeat(32);
                let expected =
                    format!("made by `Nobody Knows`: VMCALL or VMMCALL? Xen's hypercall page says{bytes}\n");
                assert!(said.iter().any(|line| line.ends_with(&expected)), "{xen:?}: {said:?}");
            }
        }
    }
}

/// On a processor that is known Xen is not asked, so that it costs nothing there, and a strange page does no harm.
#[test]
fn a_known_processor_needs_no_page() {
    for vendor in [Vendor::Intel, Vendor::Amd] {
        let xen = xen::Config { vendor, mood: Mood::Scrawling { byte: 0xCC }, ..xen::Config::DEFAULT };
        once(Options { xen, ..Options::new(1) }, |nt| {
            live(nt, |_| Ok(()))?;
            let trace = nt.trace();
            let asks = ["wrmsr(", "MmGetPhysicalAddress("];
            assert!(!trace.iter().any(|line| asks.iter().any(|ask| line.contains(ask))), "{trace:#?}");
            Ok(())
        });
    }
}

/// A dump has a page without having to allocate one: its own image's.
#[test]
fn the_dump_asks_with_a_page_of_its_own() {
    for kind in processors() {
        for (mood, expected, calls) in
            [(Mood::Kind, STATUS_SUCCESS, 1), (Mood::Scrawling { byte: 0xCC }, STATUS_NO_SUCH_DEVICE, 0)]
        {
            let xen = xen::Config { mood, ..kind };
            let mut dump = Dump::load("xenbus", Options { xen, ..Options::new(1) }).expect("it loads");
            let status = dump.enter().unwrap_or_else(|failure| panic!("{xen:?}: {failure}"));
            assert_eq!((status, dump.hypercalls(XEN_VERSION)), (expected, calls), "{xen:?}");
        }
    }
}
