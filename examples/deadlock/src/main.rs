//! kexec at work: a staged deadlock, and the task table that names it.
//!
//! Two tasks of a [`driver`] wait for each other, among others that wait for good reasons. Nothing is wrong with any
//! of them as seen from outside: no CPU is busy, no doorbell is on its way, no lock spins. The task table says where
//! each of them is parked. This program prints it, points at the two, and writes the table to a file, as a bugcheck
//! callback or a debugger would: `cargo xtask tasks` prints the same from that. If what it says is not so, the exit
//! code is 1.

mod driver;

#[cfg(test)]
mod found;

use std::{
    env,
    error::Error,
    fs,
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool, Scope, Table,
    platform::mock::{Mock, Plan, keep},
    task_table::{BuildId, Row, Tree, read, set_build_id},
};

use crate::driver::{Device, publish_statistics, read_address, receive, reset, transmit};

static DEVICE: Device = Device::new();
static VIF: Scope = Scope::new("vif 0");
static CONTROL: Pool<256, 4> = Pool::control();
static DATA: Pool<256, 8> = Pool::new();

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let file = env::args_os().nth(1).map_or_else(|| env::temp_dir().join("deadlock.tasks"), PathBuf::from);
    // What the names in the file are of. In a driver, its image has said that when it was loaded.
    set_build_id(BuildId::of_this_program()?);

    let executor: &'static Executor<Mock> =
        keep(Executor::named("net", Mock::new(Plan::CALM), Budget::DEFAULT));
    let device = executor.within(&VIF);
    let started = "there are enough slots";
    let address = executor.spawn(&CONTROL, read_address, ()).expect(started);
    executor.spawn(&CONTROL, publish_statistics, ()).expect(started).detach();
    device.spawn(&CONTROL, reset, &DEVICE).expect(started).detach();
    device.spawn(&DATA, receive, &DEVICE).expect(started).detach();
    device.spawn(&DATA, transmit, &DEVICE).expect(started).detach();
    executor.advance(Duration::from_mins(1));

    let stores: [&'static Table<256>; 2] = [&CONTROL, &DATA];
    let rows = || stores.into_iter().flat_map(Table::tasks);
    let tree = Tree::of(rows()).with(VIF.head().read().into_iter()).to_string();
    let at_a_lock: Vec<Row<'_>> = rows().filter(|row| row.kind == Some("mutex")).collect();

    let mut dump = Vec::new();
    for store in stores {
        let mut copy = vec![0; store.saved_size()];
        store.save(&mut copy)?;
        dump.extend(copy);
    }
    fs::write(&file, &dump)?;

    let mut screen = vec!["A minute later:\n".to_owned(), pointed(&tree)];
    for row in &at_a_lock {
        screen.push(format!("{} waits for {}", row.name, row.label.unwrap_or("a lock without a name")));
    }
    screen.push("\nThe same from a file:\n".to_owned());
    let program = env::current_exe()?;
    screen.push(format!("  cargo xtask tasks {} --image {}", file.display(), program.display()));
    // Whoever reads the screen may have gone.
    let _ = writeln!(stdout(), "{}", screen.join("\n"));

    let waits = |label| at_a_lock.iter().any(|row| row.label == Some(label));
    let holds = at_a_lock.len() == 2
        && waits("the grant table, with the ring locked")
        && waits("the ring, with the grant table locked")
        && read::find(&dump).count() == stores.len()
        && address.is_finished();
    if !holds {
        eprintln!(
            "error: the two that wait for each other are not those at a lock, or the file is not whole"
        );
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tree with a mark at each lock that somebody waits for.
fn pointed(tree: &str) -> String {
    let point = |line: &str| {
        let mark = if line.trim_start().starts_with("parked at mutex") { "   <===" } else { "" };
        format!("{line}{mark}\n")
    };
    tree.lines().map(point).collect()
}
