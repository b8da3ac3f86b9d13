//! What Xen says of the time, and what kexec's clock and timers do.

use core::time::Duration;

use kexec::time::{now, sleep};
use xenbus::{clock::Zone, store::Xenstore as _};

use crate::{
    Body,
    teller::{Outcome, Teller, Wrong, holds},
};

/// Seconds since 1970, which the toolstack compares with its own.
const CLOCK: &str = "data/lab/clock";

/// The two clocks are of one counter: what they may differ by, in so many parts of what has gone by.
const PARTS: u32 = 50;

pub(crate) async fn play<B: Body>(teller: &mut Teller<'_, B>) {
    let outcome = goes_on(teller);
    teller.check("system time never goes back", outcome).await;
    let outcome = as_fast_as_kexec(teller).await;
    teller.check("system time is as fast as kexec's clock, and no alarm is early", outcome).await;
    let outcome = tell_the_time(teller).await;
    teller.check("the wall clock is set", outcome).await;
    teller.tell("clock").await;
}

fn system<B: Body>(teller: &Teller<'_, B>) -> Outcome<Duration> {
    let time = teller.body.bus().system_time(teller.at, teller.body.processor(), 0).map_err(Wrong::new)?;
    Ok(Duration::from_nanos(time.0))
}

fn goes_on<B: Body>(teller: &Teller<'_, B>) -> Outcome {
    let mut before = system(teller)?;
    for _ in 0..10_000 {
        let after = system(teller)?;
        holds(after >= before, format_args!("after {before:?} it is {after:?}"))?;
        before = after;
    }
    Ok(())
}

async fn as_fast_as_kexec<B: Body>(teller: &Teller<'_, B>) -> Outcome {
    let (begin, system_begin) = (now().await, system(teller)?);
    for milliseconds in [1, 7, 20, 50, 100] {
        let (wanted, before) = (Duration::from_millis(milliseconds), system(teller)?);
        sleep(wanted).await;
        let slept = system(teller)?.saturating_sub(before);
        holds(slept + wanted / PARTS >= wanted, format_args!("an alarm of {wanted:?} came after {slept:?}"))?;
    }
    let since = now().await.since(begin);
    let system_since = system(teller)?.saturating_sub(system_begin);
    let is_near = since.abs_diff(system_since) <= since / PARTS;
    holds(is_near, format_args!("kexec counts {since:?}, and Xen {system_since:?}"))
}

async fn tell_the_time<B: Body>(teller: &Teller<'_, B>) -> Outcome {
    let time = teller.body.bus().wall_time(teller.at, teller.body.processor(), 0, Zone::Utc);
    let seconds = time.map_err(Wrong::new)?.unix_nanoseconds() / 1_000_000_000;
    Ok(teller.body.store().print(teller.at, CLOCK, seconds).await?)
}
