//! The frontend of the echo device, by hand: keys, a ring of one page, an event channel.
#![forbid(unsafe_code)]

use xen_abi::{
    GrantRef,
    io::{
        ring::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SRING, Sring},
        xenbus::XenbusState,
    },
    seam::{Access as _, Place, Places},
};
use xen_sim::{DeviceConfig, DeviceId, GuestFrame, echo};

use crate::kernel::Kernel;

/// The slots of the ring.
pub(crate) const SLOTS: Places<echo::Slot> = ring::in_one_page(size_of::<echo::Slot>());

pub(crate) const COUNT: u32 = 128;

/// A frontend with a ring and a channel, which the backend may have or not.
pub(crate) struct Frontend {
    pub(crate) device: DeviceId,
    pub(crate) ring: GuestFrame,
    pub(crate) reference: GrantRef,
    pub(crate) port: u32,
    /// Requests that were made,
    pub(crate) made: u32,
    /// and responses that were taken.
    pub(crate) taken: u32,
}

/// The frontend's directory, relative to the guest's, and the backend's.
pub(crate) const FRONT: &str = "device/echo/0";
pub(crate) fn back(kernel: &Kernel) -> String {
    format!("/local/domain/0/backend/echo/{}/0", kernel.guest.domain())
}

impl Kernel {
    /// Gives the guest an echo device.
    pub(crate) fn attach(&self) -> DeviceId {
        let device = DeviceConfig {
            index: 0,
            frontend: vec![("front-key".into(), "f".into())],
            backend: vec![("back-key".into(), "b".into())],
            protocol: Box::new(echo::Echo::new()),
        };
        self.machine.toolstack().attach(&self.guest, device)
    }

    /// Says what the frontend is, and lets the others answer.
    pub(crate) fn say(&mut self, state: XenbusState) {
        self.write(&format!("{FRONT}/state"), &state.number().to_string()).expect("it is the guest's own");
    }

    /// Has the toolstack write the keys of a frontend: nobody goes on meanwhile.
    pub(crate) fn announce(&self, frontend: &Frontend) {
        let toolstack = self.machine.toolstack();
        let front = format!("/local/domain/{}/{FRONT}", self.guest.domain());
        toolstack.write(&format!("{front}/ring-ref"), &frontend.reference.0.to_string());
        toolstack.write(&format!("{front}/event-channel"), &frontend.port.to_string());
    }

    /// What the backend says that it is; none if it is no more.
    pub(crate) fn backend(&mut self) -> Option<XenbusState> {
        self.settle();
        let number = self.read(&format!("{}/state", back(self))).ok()?;
        Some(XenbusState::try_from(number.parse::<u32>().expect("a number")).expect("a state"))
    }

    /// What the backend has said about an error.
    pub(crate) fn error(&self) -> Option<String> {
        let path = format!("/local/domain/0/error/backend/echo/{}/0/error", self.guest.domain());
        self.machine.toolstack().read(&path)
    }
}

impl Frontend {
    /// Has a ring and a channel, of which nobody knows. The indices of the ring begin at zero.
    pub(crate) fn unannounced(kernel: &mut Kernel, device: DeviceId) -> Self {
        Self::unannounced_from(kernel, device, 0)
    }

    /// The same with indices that begin at a number.
    pub(crate) fn unannounced_from(kernel: &mut Kernel, device: DeviceId, first: u32) -> Self {
        let ring = kernel.page();
        let next = first.wrapping_add(1);
        ring.write(
            SRING,
            &Sring { req_prod: first, req_event: next, rsp_prod: first, rsp_event: next, ..ring::NEW },
        );
        let reference = kernel.grant(ring.gfn());
        let port = kernel.port_for(0);
        Self { device, ring, reference, port, made: first, taken: first }
    }

    /// Has a ring and a channel, whose keys are written.
    pub(crate) fn offer(kernel: &mut Kernel, device: DeviceId) -> Self {
        let frontend = Self::unannounced(kernel, device);
        frontend.write_keys(kernel);
        frontend
    }

    pub(crate) fn write_keys(&self, kernel: &mut Kernel) {
        kernel
            .write(&format!("{FRONT}/ring-ref"), &self.reference.0.to_string())
            .expect("it is the guest's own");
        kernel
            .write(&format!("{FRONT}/event-channel"), &self.port.to_string())
            .expect("it is the guest's own");
    }

    /// A device, and its two halves connected.
    pub(crate) fn connected(kernel: &mut Kernel) -> Self {
        let device = kernel.attach();
        Self::connect(kernel, device)
    }

    pub(crate) fn connect(kernel: &mut Kernel, device: DeviceId) -> Self {
        assert_eq!(kernel.backend(), Some(XenbusState::InitWait));
        let frontend = Self::offer(kernel, device);
        kernel.say(XenbusState::Initialised);
        assert_eq!(kernel.backend(), Some(XenbusState::Connected), "{:?}", kernel.error());
        kernel.say(XenbusState::Connected);
        frontend
    }

    fn slot(index: u32) -> Place<echo::Slot> {
        SLOTS.get((index % COUNT) as usize).expect("in the ring")
    }

    /// Puts requests into the ring, and tells nobody.
    pub(crate) fn put(&mut self, values: impl IntoIterator<Item = u64>) {
        for value in values {
            self.ring.write(Self::slot(self.made), &echo::Slot { id: self.made.into(), value });
            self.made = self.made.wrapping_add(1);
        }
    }

    /// Publishes them, and whether the backend wants to hear of that (`RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`).
    pub(crate) fn publish(&self) -> bool {
        let before = self.ring.load(REQ_PROD);
        self.ring.store(REQ_PROD, self.made);
        self.made.wrapping_sub(self.ring.load(REQ_EVENT)) < self.made.wrapping_sub(before)
    }

    /// Takes the responses that are there.
    pub(crate) fn take(&mut self) -> Vec<echo::Slot> {
        let mut slots = Vec::new();
        while self.taken != self.ring.load(RSP_PROD) {
            slots.push(self.ring.read(Self::slot(self.taken)));
            self.taken = self.taken.wrapping_add(1);
        }
        self.ring.store(RSP_EVENT, self.taken.wrapping_add(1));
        slots
    }

    /// Has some numbers echoed.
    #[track_caller]
    pub(crate) fn echo(&mut self, kernel: &Kernel, values: &[u64]) {
        let first = self.made;
        self.put(values.iter().copied());
        if self.publish() {
            kernel.send(self.port).expect("it is open");
        }
        kernel.settle();
        let slot =
            |(index, value): (u32, &u64)| echo::Slot { id: first.wrapping_add(index).into(), value: !value };
        let expected: Vec<_> = (0..).zip(values).map(slot).collect();
        assert_eq!(self.take(), expected);
    }

    /// Lets go of everything: the backend has.
    #[track_caller]
    pub(crate) fn let_go(self, kernel: &Kernel) {
        kernel.close(self.port).expect("it is open");
        assert!(kernel.revoke(self.reference), "the backend has it mapped");
        kernel.free(self.ring);
    }

    /// Closes with the backend, which stays for another time.
    #[track_caller]
    pub(crate) fn close(self, kernel: &mut Kernel) {
        kernel.say(XenbusState::Closing);
        assert_eq!(kernel.backend(), Some(XenbusState::Closing));
        kernel.say(XenbusState::Closed);
        assert_eq!(kernel.backend(), Some(XenbusState::Closed));
        self.let_go(kernel);
    }
}
