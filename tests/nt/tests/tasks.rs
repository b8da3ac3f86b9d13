//! The task table of the shipped `xenbus.sys`, out of a dump of the simulated machine's memory.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use kexec_tasks::{
    image::ImageFile,
    report::{Candidate, Refusal, Report, Trust},
};
use nt_sim::{Driver, Failure, Nt, Options};

/// The driver's, by its number: the interface, not a name that both sides share.
const IOCTL_XENBUS_VERSION: u32 = 0x0022_2000;

fn candidate(driver: &Driver) -> [Candidate; 1] {
    [Candidate { name: "xenbus.sys".to_owned(), image: ImageFile::parse(driver.file()) }]
}

/// Runs a scenario with a device that is started and has been asked three times, and a dump of that moment.
fn with_dump(scenario: impl FnOnce(&[u8], &[Candidate])) {
    let nt = Nt::boot(Options::new(1));
    let life = || -> Result<(), Failure> {
        let driver = nt.load("xenbus")?;
        let device = driver.add_device()?;
        device.start()?;
        let requests = [(); 3].map(|()| device.control(IOCTL_XENBUS_VERSION, &[], 4));
        nt.settle()?;
        scenario(&nt.memory(), &candidate(&driver));
        nt.xen().upcall();
        for request in requests {
            request?.wait()?;
        }
        device.remove()?;
        driver.unload()
    };
    life().and_then(|()| nt.finish()).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A raw dump and the shipped file name every task with the file and line of its spawn and of its wait: the beat, and the
/// requests that wait for Xen.
#[test]
fn a_dump_names_the_parked_tasks() {
    with_dump(|dump, candidates| {
        let report = Report::of(dump, candidates, Trust::Build).unwrap_or_else(|refusal| panic!("{refusal}"));
        println!("{report}");
        let mut tasks: Vec<String> = Vec::new();
        for row in report.rows.iter().filter(|row| row.is_task()) {
            let site = row.site.expect("a task has a site");
            let known =
                [("xenbus/driver/src/device.rs", "xenbus"), ("xenbus/driver/src/record.rs", "xenbus record")];
            assert!(known.contains(&(site.file, row.executor.name)), "{row}");
            assert!(row.polls >= 1 && row.kind.is_some(), "{row}");
            let name = row.name.strip_prefix("xenbus_driver::").expect("it is the driver's");
            tasks.push(format!("{name} {} at {}", row.state, row.kind.unwrap_or_default()));
            if name.starts_with("tasks::answer") {
                let place = row.place.expect("it waits for a signal");
                assert_eq!(
                    (place.file, row.label),
                    ("xenbus/driver/src/tasks.rs", Some("upcall or beat")),
                    "{row}"
                );
            }
        }
        tasks.sort();
        let answer = "tasks::answer<xenbus::x86::native::Xen> parked at signal";
        let others = ["device::beat parked at interval", "record::watch parked at signal"];
        assert_eq!(tasks, [&others[..], &[answer; 3]].concat());
        let executors = report.rows.iter().filter(|row| row.is_task()).map(|row| row.executor.address);
        assert_eq!(executors.collect::<std::collections::BTreeSet<_>>().len(), 2);
    });
}

/// The driver has said which build it is: another image is refused.
#[test]
fn another_image_is_refused() {
    with_dump(|dump, _| {
        let this = std::fs::read("/proc/self/exe").expect("it is Linux");
        let other = [Candidate { name: "this test".to_owned(), image: ImageFile::parse(this) }];
        let refusal = Report::of(dump, &other, Trust::Build).expect_err("it is not the driver");
        assert!(matches!(refusal, Refusal::NoImage { .. }), "{refusal}");
        assert!(refusal.to_string().contains("the table is of build "), "{refusal}");
    });
}
