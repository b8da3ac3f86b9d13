//! kexec at work: a device is removed in the middle of its transfers.
//!
//! Its tasks are in scopes ([`device`]), which end in order. The backend ([`backend`]) has some of its buffers by
//! then, and cannot be told to stop; so the end of each ring waits for them ([`buffers`] says where each of them is).
//! All of it runs under virtual time, and prints what happened when. What the last lines mark `ok` was checked: the
//! exit code is 1 if anything marked is not so.

mod backend;
mod buffers;
mod device;
mod timeline;

#[cfg(test)]
mod faults;

use std::{
    io::{Write, stdout},
    process::ExitCode,
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool, Scope,
    platform::mock::{Mock, Plan, keep},
};

use crate::{
    buffers::BUFFERS,
    device::{Device, Scopes, Slots},
    timeline::Line,
};

static DEVICE: Scope = Scope::new("device");
static CONNECTION: Scope = Scope::new("connection");
static QUEUES: [Scope; 2] = [Scope::new("queue 0"), Scope::new("queue 1")];

static SCOPES: Scopes = Scopes { device: &DEVICE, connection: &CONNECTION, queues: [&QUEUES[0], &QUEUES[1]] };

/// Requests for each queue: together more than there are buffers.
const READS: u64 = 9;

static TASKS: Pool<768, 32> = Pool::new();

fn main() -> ExitCode {
    let executor: &'static Executor<Mock> =
        keep(Executor::named("driver", Mock::new(Plan::CALM), Budget::DEFAULT));
    let slots: Slots = &TASKS;
    let device = Device::start(executor, slots, SCOPES, READS);
    for queue in device.queues {
        // It is none of the device's tasks: it plays another machine.
        let backend = executor.spawn(slots, backend::serve, &queue.ring);
        backend.expect("there are enough slots").detach();
    }
    executor.advance(Duration::from_micros(2500));
    let in_flight = device.outstanding();
    let removed = device.remove(executor, slots);
    executor.advance(Duration::from_secs(1));

    let line =
        |line: &Line| format!("{:>7.1} ms  {:<8} {}", line.at.as_secs_f64() * 1e3, line.who, line.what);
    let mut screen: Vec<String> = device.timeline.lines().iter().map(line).collect();
    screen.push(String::new());
    let holds = claim(&mut screen, &device, in_flight, removed.is_finished());
    // Whoever reads the screen may have gone.
    let _ = writeln!(stdout(), "{}", screen.join("\n"));
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what is so in the end. Whether all of it is.
fn claim(screen: &mut Vec<String>, device: &Device, in_flight: usize, is_gone: bool) -> bool {
    let books = device.books.lock();
    let count = |is: fn(&[device::Outcome]) -> bool| books.values().filter(|outcomes| is(outcomes)).count();
    let once = count(|outcomes| outcomes.len() == 1);
    let (read, cancelled) = (count(|outcomes| outcomes == [Ok(())]), count(|outcomes| outcomes != [Ok(())]));
    let requests = 2 * usize::try_from(READS).expect("they are few");
    let at = |who, what| device.timeline.find(who, what);
    let order = [
        at("queue 1", "ring has ended"),
        at("queue 0", "ring has ended"),
        at("port", "has ended"),
        at("watch", "has ended"),
        at("device", "gone"),
    ];
    let mut holds = true;
    for (claim, text) in [
        (once == requests, format!("{once} of {requests} requests were completed, once each")),
        (read > 0 && cancelled > 0, format!("{read} of them read their block, {cancelled} were cancelled")),
        (in_flight > 0, format!("{in_flight} buffers were with the backend when the device was removed")),
        (device.buffers.free() == BUFFERS, format!("all {BUFFERS} buffers are free again")),
        (
            order.is_sorted() && order[0].is_some() && is_gone,
            "queue 1, queue 0, port, watch, device: ended in this order".into(),
        ),
    ] {
        screen.push(format!("  {} {text}", if claim { "ok" } else { "NO" }));
        holds &= claim;
    }
    holds
}
