//! Pages that nobody waits for, and that another domain has not let go of.
#![forbid(unsafe_code)]

use core::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use kexec::{irql::Dispatch, sync::AutoEvent, time::sleep};

use super::{Grants, share::Lent};
use crate::{
    cell::TryLock,
    page::{Ram, Seam},
};

/// So many pages are looked after at a time. Those that there is no room for are lost.
pub const QUARANTINE: usize = 64;

/// How long the other domain is given before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

type Page<P> = Lent<P, Ram<P>, 1>;

/// The pages.
pub(super) struct Quarantine<P: Seam> {
    places: [TryLock<Option<Page<P>>>; QUARANTINE],
    /// There is something to look after.
    bell: AutoEvent,
    pages: AtomicU32,
    leaked: AtomicU32,
}

impl<P: Seam> Quarantine<P> {
    pub(super) const fn new() -> Self {
        Self {
            places: [const { TryLock::new(None) }; QUARANTINE],
            bell: AutoEvent::new(false),
            pages: AtomicU32::new(0),
            leaked: AtomicU32::new(0),
        }
    }

    /// The pages that are here, and those that are lost.
    pub(super) fn counters(&self) -> (u32, u32) {
        (self.pages.load(Relaxed), self.leaked.load(Relaxed))
    }

    /// Takes a page in, if there is room.
    fn take_in(&self, page: Page<P>) {
        let mut page = Some(page);
        // Before it can be found, and counted as gone.
        self.pages.fetch_add(1, Relaxed);
        for place in &self.places {
            // One that somebody looks into just now is not waited for.
            let _busy = place.with(|place| {
                if place.is_none() {
                    *place = page.take();
                }
            });
            if page.is_none() {
                return self.bell.set();
            }
        }
        // It is gone with that, and nothing of it is freed.
        self.pages.fetch_sub(1, Relaxed);
        self.leaked.fetch_add(1, Relaxed);
    }
}

impl<P: Seam> Grants<P> {
    /// Takes a page in that is in use.
    pub(super) fn quarantine(&self, page: Page<P>) {
        self.quarantine.take_in(page);
    }

    /// Tries again to revoke what was in use when it was dropped. Returns how many pages there are that still are
    /// in use: 64 at most.
    ///
    /// At `DISPATCH_LEVEL`.
    pub fn tend(&self, _at: &Dispatch) -> u32 {
        let now = self.epochs().now();
        for place in &self.quarantine.places {
            place.with(|place| {
                let Some(page) = place.take() else { return };
                match page.end(now, drop) {
                    Ok(page) => {
                        self.quarantine.pages.fetch_sub(1, Relaxed);
                        drop(page);
                    }
                    Err((page, _)) => *place = Some(page),
                }
            });
        }
        self.quarantine.pages.load(Relaxed)
    }

    /// Looks after the pages that were in use when they were dropped, for as long as the driver runs: as long as
    /// there are any, they are tried once a second.
    ///
    /// **Cancel-safe:** another one goes on where it was.
    pub async fn serve(&self, at: &Dispatch) {
        loop {
            self.quarantine.bell.wait().await;
            while self.tend(at) > 0 {
                sleep(PAUSE).await;
            }
        }
    }
}
