//! What has happened to a page.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, fmt, panic::Location, time::Duration};

use xen_abi::{GrantRef, seam::Gfn};

use super::XenPage;

/// Where the guest's code asked for something.
pub(crate) type Site = &'static Location<'static>;

/// When something happened, and where in the guest's code, if it was the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) at: Duration,
    pub(crate) site: Option<Site>,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.at)?;
        self.site.map_or(Ok(()), |site| write!(f, " at {site}"))
    }
}

/// Something that has happened to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The toolstack built the guest with it.
    Built,
    /// The guest took it from its kernel,
    Allocated,
    /// or a place without RAM,
    SetAside,
    /// or mapped what the toolstack has put there.
    Mapped,
    GivenBack,

    Granted {
        reference: GrantRef,
        to: u16,
        readonly: bool,
    },
    Changed {
        reference: GrantRef,
    },
    Revoked {
        reference: GrantRef,
    },

    MappedBy {
        domain: u16,
        reference: GrantRef,
        writable: bool,
    },
    UnmappedBy {
        domain: u16,
        reference: GrantRef,
    },
    CopiedBy {
        domain: u16,
        reference: GrantRef,
        written: bool,
    },

    /// The guest put a page of Xen's there,
    Placed(XenPage),
    /// or one of another domain's,
    PlacedForeign {
        domain: u16,
        reference: GrantRef,
    },
    /// or one of its own, from elsewhere.
    MovedFrom(Gfn),
    Emptied,

    /// What was there is gone with the domain that the guest was.
    Lost,

    /// The guest gave the RAM to Xen,
    Surrendered,
    /// and got some from it.
    Populated,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Built => f.write_str("put there by the toolstack"),
            Self::Allocated => f.write_str("allocated"),
            Self::SetAside => f.write_str("set aside as a hole"),
            Self::Mapped => f.write_str("mapped by the guest"),
            Self::GivenBack => f.write_str("given back"),
            Self::Granted { reference, to, readonly } => {
                let how = if readonly { "read-only" } else { "read-write" };
                write!(f, "granted as ref {reference} to domain {to}, {how}")
            }
            Self::Changed { reference } => write!(f, "ref {reference} changed"),
            Self::Revoked { reference } => write!(f, "ref {reference} revoked"),
            Self::MappedBy { domain, reference, writable } => {
                let how = if writable { "read-write" } else { "read-only" };
                write!(f, "mapped by domain {domain} as ref {reference}, {how}")
            }
            Self::UnmappedBy { domain, reference } => {
                write!(f, "unmapped by domain {domain}, ref {reference}")
            }
            Self::CopiedBy { domain, reference, written } => {
                let way = if written { "to" } else { "from" };
                write!(f, "copied {way} by domain {domain} as ref {reference}")
            }
            Self::Placed(page) => write!(f, "{page} put there"),
            Self::PlacedForeign { domain, reference } => {
                write!(f, "ref {reference} of domain {domain} put there")
            }
            Self::MovedFrom(gfn) => write!(f, "moved there from page {:#x}", gfn.0),
            Self::Emptied => f.write_str("emptied"),
            Self::Lost => f.write_str("emptied by a suspend"),
            Self::Surrendered => f.write_str("its RAM given to Xen"),
            Self::Populated => f.write_str("filled with RAM by Xen"),
        }
    }
}

/// An event, and how often in a row it happened.
#[derive(Clone, Copy, Debug)]
struct Entry {
    event: Event,
    times: u64,
    last: Moment,
}

/// The last events of a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    entries: VecDeque<Entry>,
    forgotten: u64,
}

impl History {
    /// So many are kept.
    pub(crate) const LENGTH: usize = 32;

    pub(crate) fn add(&mut self, event: Event, moment: Moment) {
        if let Some(last) = self.entries.back_mut()
            && last.event == event
            && last.last.site == moment.site
        {
            *last = Entry { event, times: last.times + 1, last: moment };
            return;
        }
        if self.entries.len() == Self::LENGTH {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        self.entries.push_back(Entry { event, times: 1, last: moment });
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forgotten > 0 {
            writeln!(f, "    ({} earlier)", self.forgotten)?;
        }
        self.entries.iter().try_for_each(|Entry { event, times, last }| match times {
            1 => writeln!(f, "    {event}, {last}"),
            _ => writeln!(f, "    {event}, {times} times until {last}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring's page is copied to millions of times: that must neither grow without end nor push out what came before.
    #[test]
    fn keeps_the_last_events_and_counts_what_repeats() {
        let moment = Moment { at: Duration::ZERO, site: None };
        let mut history = History::default();
        history.add(Event::Allocated, moment);
        for _ in 0..1000 {
            history.add(Event::CopiedBy { domain: 0, reference: GrantRef(9), written: true }, moment);
        }
        assert_eq!(
            history.to_string(),
            "    allocated, 0ns\n    copied to by domain 0 as ref 9, 1000 times until 0ns\n"
        );
        let elsewhere = Moment { site: Some(Location::caller()), ..moment };
        for moment in [moment, elsewhere, elsewhere] {
            history.add(Event::GivenBack, moment);
        }
        let text = history.to_string();
        assert_eq!(text.lines().count(), 4, "what is done elsewhere is another event: {text}");
        for reference in 0..100 {
            history.add(Event::Revoked { reference: GrantRef(reference) }, moment);
        }
        let text = history.to_string();
        assert_eq!(text.lines().count(), History::LENGTH + 1, "{text}");
        assert!(text.starts_with("    (72 earlier)\n    ref 68 revoked"), "{text}");
        assert!(text.ends_with("    ref 99 revoked, 0ns\n"), "{text}");
    }
}
