//! What a frontend does next, by what its backend says of itself.
//!
//! There is no table of this in Xen's documents but the diagram in `io/blkif.h`, section "STATE DIAGRAMS"; the rest
//! is what Linux's frontends and backends do with each other (`io/xenbus.h` has the states).
#![forbid(unsafe_code)]

use core::fmt;

use xen_abi::io::xenbus::XenbusState;

/// How far a frontend has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has not begun, and says `Initialising`: it waits for what the backend offers.
    Waits,
    /// It has published its rings, and waits for the backend to connect.
    Offers,
    /// Both are connected.
    Runs,
    /// Both are connected, and the toolstack wants the device back: others have to let go of it first.
    Stays,
    /// It says `Closing`, and waits for the backend to have stopped.
    Closes,
    /// It says `Closed`, and waits for the backend to have let go.
    LetsGo,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 6] =
        [Self::Waits, Self::Offers, Self::Runs, Self::Stays, Self::Closes, Self::LetsGo];
}

/// What a backend says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its `state`; `Unknown`, if there is none: the backend is gone, or does not begin.
    pub state: XenbusState,
    /// Its `online`: false, if the toolstack has said that the device is to go.
    pub is_online: bool,
}

/// What a frontend does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits for the backend's next word.
    Wait,
    /// It goes on to the next phase.
    GoOn,
    /// It closes: says so, and waits for the backend.
    Close,
    /// The backend serves its rings no more, and did not wait to be asked: it lets go of them, and looks anew.
    Lost,
    /// The toolstack wants the device back: it closes, or stays a while.
    Leave,
    /// The device is to go: it ends.
    End,
}

/// What to do in this phase, when the backend says that.
///
/// | | none | `Initialising` | `InitWait` | `Initialised` | `Connected` | `Closing` | `Closed` |
/// |---|---|---|---|---|---|---|---|
/// | waits | wait | wait | go on | go on | close | close | wait |
/// | offers | lost | wait | wait | wait | go on | close | lost |
/// | runs | lost | lost | lost | lost | wait | close | lost |
/// | stays | lost | lost | lost | lost | wait | wait | lost |
/// | closes | go on | go on | go on | wait | wait | go on | go on |
/// | lets go | go on | go on | go on | wait | wait | wait | go on |
///
/// A backend that is not online any more is never waited for in the first phase: the frontend ends where it would wait,
/// and where it would go on. Where a frontend that runs would wait or close, it is to leave. `Reconfiguring` and
/// `Reconfigured` are as `Connected`.
#[must_use]
pub const fn step(phase: Phase, backend: Backend) -> Step {
    use XenbusState::{
        Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured, Reconfiguring, Unknown,
    };
    match phase {
        Phase::Waits => match backend.state {
            // A backend that is connected, is so with whoever was here before.
            Connected | Reconfiguring | Reconfigured | Closing => Step::Close,
            _ if !backend.is_online => Step::End,
            InitWait | Initialised => Step::GoOn,
            Unknown | Initialising | Closed => Step::Wait,
        },
        Phase::Offers => match backend.state {
            Connected | Reconfiguring | Reconfigured => Step::GoOn,
            Initialising | InitWait | Initialised => Step::Wait,
            Closing => Step::Close,
            Closed | Unknown => Step::Lost,
        },
        Phase::Runs => match backend.state {
            Connected | Reconfiguring | Reconfigured | Closing if !backend.is_online => Step::Leave,
            Connected | Reconfiguring | Reconfigured => Step::Wait,
            Closing => Step::Close,
            // It is gone, or began anew, without a word.
            Closed | Unknown | Initialising | InitWait | Initialised => Step::Lost,
        },
        Phase::Stays => match backend.state {
            Connected | Reconfiguring | Reconfigured | Closing => Step::Wait,
            Closed | Unknown | Initialising | InitWait | Initialised => Step::Lost,
        },
        Phase::Closes => match backend.state {
            Connected | Reconfiguring | Reconfigured | Initialised => Step::Wait,
            Closing | Closed | Unknown | Initialising | InitWait => Step::GoOn,
        },
        Phase::LetsGo => match backend.state {
            Connected | Reconfiguring | Reconfigured | Initialised | Closing => Step::Wait,
            Closed | Unknown | Initialising | InitWait => Step::GoOn,
        },
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waits => "waits for the backend",
            Self::Offers => "waits for the backend to connect",
            Self::Runs => "runs",
            Self::Stays => "stays until it is stopped",
            Self::Closes => "closes",
            Self::LetsGo => "waits for the backend to let go",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// The table that a reader sees, and not another one, is what a frontend goes by; each cell of it, and what
    /// stands below it.
    #[test]
    fn the_table() {
        let rows: Vec<Vec<&str>> = include_str!("step.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("/// | ")?.strip_suffix(" |"))
            .map(|row| row.split(" | ").collect())
            .collect();
        let (_head, rows) = rows.split_first().expect("there is a table");
        assert_eq!(rows.len(), Phase::ALL.len());
        for (phase, row) in Phase::ALL.into_iter().zip(rows) {
            assert_eq!(row.len(), 8, "a name, and a cell for each state: {row:?}");
            for (state, cell) in XenbusState::ALL.into_iter().zip(&row[1..]) {
                let expected = match *cell {
                    "wait" => Step::Wait,
                    "go on" => Step::GoOn,
                    "close" => Step::Close,
                    "lost" => Step::Lost,
                    other => panic!("`{other}` is no step"),
                };
                assert_eq!(step(phase, Backend { state, is_online: true }), expected, "{phase:?}, {state}");
                let expected = match (phase, expected) {
                    (Phase::Waits, Step::Wait | Step::GoOn) => Step::End,
                    (Phase::Runs, Step::Wait | Step::Close) => Step::Leave,
                    (_, expected) => expected,
                };
                assert_eq!(
                    step(phase, Backend { state, is_online: false }),
                    expected,
                    "{phase:?}, {state}, offline"
                );
            }
            for is_online in [true, false] {
                let connected = step(phase, Backend { state: XenbusState::Connected, is_online });
                for state in [XenbusState::Reconfiguring, XenbusState::Reconfigured] {
                    assert_eq!(step(phase, Backend { state, is_online }), connected);
                }
            }
        }
    }

    /// Whatever a backend says and however often it changes its mind, a frontend that closes comes to an end as soon
    /// as the backend is closed or gone, and one that runs never takes a backend for its own that has begun anew.
    #[test]
    fn there_is_a_way_out() {
        for state in [XenbusState::Closed, XenbusState::Unknown] {
            for phase in [Phase::Closes, Phase::LetsGo] {
                assert_eq!(step(phase, Backend { state, is_online: true }), Step::GoOn);
            }
            assert_eq!(step(Phase::Waits, Backend { state, is_online: false }), Step::End);
        }
        for state in [XenbusState::Initialising, XenbusState::InitWait, XenbusState::Initialised] {
            assert_eq!(step(Phase::Runs, Backend { state, is_online: true }), Step::Lost);
        }
    }
}
