//! What happens to the guest: what its toolstack does, and when.

use std::{fmt, time::Duration};

use kexec::{
    irql::Dispatch,
    time::{sleep, timeout},
};
use xen_abi::io::xenbus::XenbusState;
use xen_harness::{Executors, Rig};
use xen_sim::{DeviceConfig, DeviceId, Request, Suspend, echo::Echo};

use crate::guest::Guest;

/// How much happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plot {
    /// A device, and that is all.
    Short,
    /// Two devices, one of which goes and comes again; a suspend that is cancelled, and a migration; a line at the
    /// console.
    Long,
}

/// Who does it.
#[derive(Clone)]
struct Toolstack {
    rig: Rig,
    guest: &'static Guest,
    plot: Plot,
}

/// How long it waits for anything before it goes on without.
const PATIENCE: Duration = Duration::from_secs(90);

impl Plot {
    /// Has it happen, by a task of its own.
    pub(crate) fn begin(self, rig: &Rig, executors: &mut impl Executors, guest: &'static Guest) {
        let toolstack = Toolstack { rig: rig.clone(), guest, plot: self };
        // They are there before the guest begins.
        let devices: Vec<_> = (0..self.devices()).map(|index| toolstack.attach(index)).collect();
        let slots = executors.pool::<2048, 1>();
        let task = executors.device("toolstack").spawn(slots, happen, (toolstack, devices));
        task.expect("a slot for its task").detach();
    }

    /// Devices that the guest has at a time.
    pub(crate) const fn devices(self) -> u32 {
        match self {
            Self::Short => 1,
            Self::Long => 2,
        }
    }
}

async fn happen(_: &mut Dispatch, (toolstack, devices): (Toolstack, Vec<DeviceId>)) {
    toolstack.until("the devices are connected", || toolstack.are_connected()).await;
    if toolstack.plot == Plot::Long {
        toolstack.more(&devices).await;
    }
    toolstack.until("the devices have nothing left to do", || toolstack.guest.is_idle()).await;
    toolstack.request(Request::PowerOff);
}

impl Toolstack {
    async fn more(&self, devices: &[DeviceId]) {
        let tools = self.rig.machine().toolstack();
        let last = *devices.last().expect("there are two");
        tools.detach(last);
        self.until("the device is gone", || !tools.has(last)).await;
        sleep(Duration::from_millis(2)).await;
        self.attach(1);
        self.until("it is connected", || self.are_connected()).await;

        self.say("types at the guest's console");
        tools.type_in(self.rig.guest(), "hello\n");
        self.until("the guest answers", || self.screen().contains("you have typed: hello")).await;

        self.request(Request::Suspend(Suspend::Cancelled));
        sleep(Duration::from_millis(5)).await;
        let before = self.rig.guest().domain();
        self.request(Request::Suspend(Suspend::Migrated));
        self.until("the guest has moved", || self.rig.guest().domain() != before).await;
        self.until("the devices are connected", || self.are_connected()).await;
    }

    fn attach(&self, index: u32) -> DeviceId {
        let protocol = Box::new(Echo::new());
        let config = DeviceConfig { index, frontend: Vec::new(), backend: Vec::new(), protocol };
        self.rig.machine().toolstack().attach(self.rig.guest(), config)
    }

    fn request(&self, request: Request) {
        self.rig.machine().toolstack().request(self.rig.guest(), request);
    }

    fn are_connected(&self) -> bool {
        let domain = self.rig.guest().domain();
        (0..self.plot.devices()).all(|index| {
            let state = format!("/local/domain/{domain}/device/echo/{index}/state");
            let state = self.rig.machine().toolstack().read(&state);
            state.is_some_and(|state| state == XenbusState::Connected.number().to_string())
        })
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.rig.machine().toolstack().console(self.rig.guest())).into_owned()
    }

    /// Looks every now and then, and less often as it takes longer.
    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let looks = async {
            let mut pause = Duration::from_millis(1);
            for look in 1.. {
                if is_so() {
                    return;
                }
                sleep(pause).await;
                if look % 50 == 0 {
                    pause *= 2;
                }
            }
        };
        if timeout(PATIENCE, looks).await.is_err() {
            self.say(format_args!("waits no longer until {what}"));
        }
    }

    fn say(&self, what: impl fmt::Display) {
        self.guest.timeline.say("toolstack", what);
    }
}
