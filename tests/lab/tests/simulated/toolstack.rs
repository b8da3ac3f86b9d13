//! The steps of a scenario, as `dom0/init` plays them on a real Xen.
#![forbid(unsafe_code)]

use std::time::Duration;

use kexec::{
    JoinHandle,
    irql::Dispatch,
    time::{sleep, timeout},
};
use xen_abi::GrantRef;
use xen_harness::{Executors as _, Player, Rig};
use xen_lab::scenario::{End, Scenario, Step};
use xen_sim::{Access, Mapping, Request, Shutdown, Suspend, Toolstack};

/// How long a guest may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take until it says a word: here it takes milliseconds, in which it talks a lot.
const WORD: Duration = Duration::from_millis(200);

/// What the clocks of this host show when it begins.
const BEGIN: Duration = Duration::from_secs(1_700_000_000);

const PAGE: usize = 4096;

/// What has come of the steps.
pub(crate) type Played = Result<(), String>;

struct Tools {
    rig: Rig,
    xl: Toolstack,
    scenario: Scenario,
    /// What the peer has mapped, and its end of the guest's event channel.
    mapped: Vec<Mapping>,
    port: Option<u32>,
}

/// Writes the guest's part, and has the steps played by a task of their own.
pub(crate) fn begin(player: &mut Player, rig: &Rig, scenario: &Scenario) -> JoinHandle<Played> {
    let (xl, scenario) = (rig.machine().toolstack(), scenario.clone());
    let tools = Tools { rig: rig.clone(), xl, scenario, mapped: Vec::new(), port: None };
    rig.machine().dom0().set_wall_clock(BEGIN);
    tools.xl.write(&tools.node("part"), tools.scenario.part.name());
    tools.xl.write(&tools.node("abi"), if tools.scenario.fifo { "fifo" } else { "bitmaps" });
    tools.xl.write(&tools.node("store"), "todays-xenstored");
    let slots = player.pool::<8192, 1>();
    player.device("toolstack").spawn(slots, steps, tools).expect("a slot is free")
}

async fn steps(_: &mut Dispatch, mut tools: Tools) -> Played {
    for step in tools.scenario.steps.clone() {
        tools.step(&step).await.map_err(|why| format!("{step:?}: {why}"))?;
    }
    let wanted = match tools.scenario.end {
        End::PowerOff => Shutdown::PowerOff,
        End::Reboot => Shutdown::Reboot,
        End::Crash => Shutdown::Crash,
    };
    let guest = tools.rig.guest().clone();
    tools.until("the guest has not ended", || tools.xl.shutdown(&guest).is_some()).await?;
    let is = tools.xl.shutdown(&guest);
    if is == Some(wanted) {
        Ok(())
    } else {
        Err(format!("the guest was to end by {wanted}, and has by {is:?}"))
    }
}

impl Tools {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Wait(word) => {
                let why = format!("the guest has not said {word}");
                self.within(WORD, &why, || self.read("said").as_ref() == Some(word)).await
            }
            Step::Checkpoint => self.ask(Request::Suspend(Suspend::Cancelled)),
            // To whom it is restored nobody sees, here or elsewhere.
            Step::SaveRestore | Step::Migrate => {
                let before = self.rig.guest().domain();
                self.ask(Request::Suspend(Suspend::Migrated))?;
                self.until("the guest has not moved", || self.rig.guest().domain() != before).await
            }
            Step::PowerOff => self.ask(Request::PowerOff),
            Step::Reboot => self.ask(Request::Reboot),
            Step::Clock => {
                let told =
                    self.read("clock").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
                let is_right = told.is_some_and(|told| (BEGIN..BEGIN + PATIENCE).contains(&told));
                if is_right { Ok(()) } else { Err(format!("the guest takes {told:?} for the time")) }
            }
            Step::Hold => self.hold(),
            Step::Echo => self.echo().await,
            Step::Storm(count) => self.storm(*count).await,
            Step::Release => {
                self.release();
                Ok(())
            }
        }
    }

    fn ask(&self, request: Request) -> Result<(), String> {
        let is_heard = self.xl.request(self.rig.guest(), request);
        if is_heard { Ok(()) } else { Err("the guest has no drivers".to_owned()) }
    }

    /// Has the peer connect, and map what is granted.
    fn connect(&mut self) -> Result<u32, String> {
        let (dom0, guest) = (self.rig.machine().dom0(), self.rig.guest().clone());
        let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
        let port = number(&self.read("port").ok_or("the guest has said no port")?)?;
        let port = dom0.bind_interdomain(&guest, port).map_err(|refused| format!("bind: {refused:?}"))?;
        self.port = Some(port);
        let grants = self.read("grants").ok_or("the guest has granted nothing")?;
        for reference in grants.split_whitespace() {
            let mapping = dom0.map(&guest, GrantRef(number(reference)?), Access::Write);
            self.mapped.push(mapping.map_err(|error| format!("map {reference}: {error}"))?);
        }
        Ok(port)
    }

    fn hold(&mut self) -> Result<(), String> {
        let dom0 = self.rig.machine().dom0();
        let port = self.connect()?;
        for (page, mapping) in (0_u64..).zip(&self.mapped) {
            let mut bytes = [0; PAGE];
            dom0.read(*mapping, 0, &mut bytes).map_err(|error| error.to_string())?;
            for (word, place) in (0_u64..).zip(bytes.as_chunks_mut::<8>().0) {
                let is = u64::from_le_bytes(*place);
                if is != page << 32 | word {
                    return Err(format!("word {word} of page {page} is {is:#x}"));
                }
                *place = (!is).to_le_bytes();
            }
            dom0.write(*mapping, 0, &bytes).map_err(|error| error.to_string())?;
        }
        dom0.send(port).map_err(|refused| format!("send: {refused:?}"))
    }

    /// Answers until the guest says that it has been answered.
    async fn echo(&mut self) -> Result<(), String> {
        let dom0 = self.rig.machine().dom0();
        let port = self.connect()?;
        let page = *self.mapped.first().ok_or("nothing is granted")?;
        let answer = || {
            let mut number = [0; 8];
            dom0.read(page, 0, &mut number).map_err(|error| error.to_string())?;
            dom0.write(page, 8, &number).map_err(|error| error.to_string())?;
            dom0.send(port).map_err(|refused| format!("send: {refused:?}"))
        };
        // Xen tells who connects of an event.
        answer()?;
        let is_over = || {
            let comes = dom0.notified().contains(&port);
            self.read("said").as_deref() == Some("answered") || (comes && answer().is_err())
        };
        self.until("the guest has not said answered", is_over).await
    }

    async fn storm(&mut self, count: u64) -> Result<(), String> {
        let dom0 = self.rig.machine().dom0();
        let port = self.connect()?;
        let page = *self.mapped.first().ok_or("nothing is granted")?;
        for number in 1..=count {
            dom0.write(page, 0, &number.to_le_bytes()).map_err(|error| error.to_string())?;
            dom0.send(port).map_err(|refused| format!("send: {refused:?}"))?;
            if number % 16 == 0 {
                sleep(Duration::from_micros(number % 64)).await;
            }
        }
        let seen = || {
            let mut bytes = [0; 8];
            dom0.read(page, 8, &mut bytes).is_ok().then(|| u64::from_le_bytes(bytes))
        };
        let ended = self.until("", || seen() == Some(count)).await;
        let outcome = ended.map_err(|_| format!("of {count} events the guest has seen {:?}", seen()));
        self.release();
        outcome
    }

    /// The peer is gone: the kernel lets go of what it had.
    fn release(&mut self) {
        let dom0 = self.rig.machine().dom0();
        for mapping in self.mapped.drain(..) {
            dom0.unmap(mapping).expect("it is mapped");
        }
        if let Some(port) = self.port.take() {
            dom0.close(port).expect("it is open");
        }
    }

    fn node(&self, key: &str) -> String {
        format!("/local/domain/{}/data/lab/{key}", self.rig.guest().domain())
    }

    fn read(&self, key: &str) -> Option<String> {
        self.xl.read(&self.node(key))
    }

    /// Looks until it is so, or says why not.
    async fn until(&self, why: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
        self.within(PATIENCE, why, is_so).await
    }

    async fn within(&self, limit: Duration, why: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
        let looks = async {
            while !is_so() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(limit, looks).await.map_err(|_| why.to_owned())
    }
}
