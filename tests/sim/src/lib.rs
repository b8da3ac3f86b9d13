#![doc = include_str!("../README.md")]
//!
//! # In reading order
//!
//! - [`Machine`], [`Guest`] and [`Runtime`]: what a test holds, what a driver runs on, who runs the driver; `world`: all there is;
//! - `hypervisor`: hypercalls, events, grants, clocks; `ram`: a guest's memory; `linear`: what pointers name;
//! - [`xenstored`];
//! - [`Toolstack`], [`Protocol`] and [`Side`]: devices and their backends; [`echo`] is the smallest;
//! - `console`: what guests write, and what is typed;
//! - [`Dom0`]: the control domain, for whoever plays a part of it;
//! - [`Fault`] and [`Plan`]: what goes wrong; [`Audit`]: what was wrong;
//! - [`Rule`]: what is followed.
#![deny(unsafe_code)]

mod audit;
mod backend;
mod console;
mod dice;
mod dom0;
mod fault;
mod guest;
mod hypervisor;
mod linear;
mod machine;
mod platform;
mod ram;
mod rule;
mod runtime;
mod toolstack;
mod trace;
mod world;
pub mod xenstored;

pub use self::{
    audit::{Audit, Culprit, Finding, Mistake, Tally},
    backend::{DeviceId, Protocol, Side, echo},
    dice::Dice,
    dom0::Dom0,
    fault::{Fault, Peer, Plan},
    guest::{Guest, GuestConfig, GuestFrame, Interrupt},
    hypervisor::{
        event::{deliver::EventFault, dom0::Refused},
        grant::backend::{Access, Mapping, Untouchable},
        processor::{Cpu, Instruction},
        time::Clock,
        version::Release,
    },
    linear::{Arena, BadAddress, Linear},
    machine::{Actor, GuestId, Machine},
    platform::Emulated,
    rule::Rule,
    runtime::Runtime,
    toolstack::{DeviceConfig, Request, Shutdown, Suspend, Toolstack, Watch},
    trace::Line,
};
