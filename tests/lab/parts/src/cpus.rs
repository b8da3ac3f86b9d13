//! What crosses from one virtual CPU to another: wake-ups and events, which go round them all.

use core::time::Duration;

use crate::{
    Body,
    teller::{Teller, holds},
};

const ROUNDS: u32 = 200;
const TICK: Duration = Duration::from_millis(5);

pub(crate) async fn play<B: Body>(teller: &mut Teller<'_, B>) {
    let cpus = teller.body.cpus();
    teller.check("there are several", holds(cpus > 1, format_args!("there is {cpus}"))).await;
    for (name, tick) in [("with timers", Some(TICK)), ("with nothing that wakes one by chance", None)] {
        let crossed = teller.body.cross_cpus(ROUNDS, tick).await;
        if let Ok(crossed) = &crossed {
            teller.body.say(teller.at, format_args!("{crossed}")).await;
        }
        teller.check(format_args!("everything arrives, {name}"), crossed.map(drop)).await;
    }
}
