//! What event channels claim, with channels of the guest's own: it is both ends.

use core::{pin::pin, time::Duration};

use futures_util::future::join;
use kexec::time::timeout;
use xen_abi::{
    Errno,
    domid::DOMID_SELF,
    event_channel::{EvtchnPort, virq::VIRQ_TIMER},
};
use xenbus::event::{Channel, ChannelError, Counts, OpenError, Priority, Upcalls};

use crate::{
    Body, Order,
    teller::{Outcome, Teller, Wrong, holds},
};

/// An event that does not come for so long is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it is waited for what is not to come.
const SILENCE: Duration = Duration::from_millis(30);

/// Channels of a storm, as many as there are slots for, and rounds.
const STORM: usize = 40;
const ROUNDS: u32 = 50;

const PING_PONGS: u32 = 500;

/// How often a channel is opened and closed: more often than there are ports.
const LIVES: u32 = 300;

type Of<B> = Channel<<B as Body>::Platform>;

pub(crate) async fn play<B: Body>(teller: &mut Teller<'_, B>, order: &Order) {
    let abi = match (teller.body.events().is_fifo(), order.fifo) {
        (Some(is), wanted) if is == wanted => Ok(()),
        (is, wanted) => {
            Err(Wrong::new(format_args!("FIFO was to be {wanted}, and Xen has made that {is:?}")))
        }
    };
    teller.check("events come by the ABI that was asked for", abi).await;
    let outcome = ping_pong(teller).await;
    teller.check("two ends answer each other", outcome).await;
    let outcome = coalesce(teller).await;
    teller.check("events that nobody has taken are one", outcome).await;
    let outcome = storm(teller).await;
    teller.check("no channel is forgotten in a storm", outcome).await;
    let outcome = lives(teller).await;
    teller.check("a port that is closed can be another's", outcome).await;
    let outcome = virtual_interrupts(teller);
    teller.check("a virtual interrupt has one channel", outcome).await;
    let outcome = priorities(teller, order).await;
    teller.check("queues have priorities, and bitmaps have none", outcome).await;
    for place in 0..teller.body.cpus() {
        let outcome = bound(teller, place).await;
        teller.check(format_args!("upcalls go to virtual CPU {place}"), outcome).await;
    }
    let counts = teller.body.events().counts();
    let outcome = holds(counts == Counts::default(), format_args!("{counts:?}"));
    teller.check("nothing came that nobody waits for", outcome).await;
}

/// Waits for an event that is to come.
async fn comes<B: Body>(teller: &Teller<'_, B>, channel: &Of<B>) -> Outcome {
    let event = timeout(PATIENCE, channel.wait(teller.at)).await;
    let lost = |_| Wrong::new(format_args!("no event came to port {} for {PATIENCE:?}", channel.port().0));
    event.map_err(lost)?.map_err(Wrong::new)
}

async fn comes_not<B: Body>(teller: &Teller<'_, B>, channel: &Of<B>) -> Outcome {
    match timeout(SILENCE, channel.wait(teller.at)).await {
        Err(_) => Ok(()),
        Ok(event) => event.map_err(Wrong::new).and(Err(Wrong::new("an event came that nobody has sent"))),
    }
}

/// Two channels, each of which is the other's end.
fn pair<B: Body>(teller: &Teller<'_, B>) -> Outcome<(Of<B>, Of<B>)> {
    let events = teller.body.events();
    let one = events.unbound(teller.at, DOMID_SELF).map_err(Wrong::new)?;
    let other = events.interdomain(teller.at, DOMID_SELF, one.port()).map_err(Wrong::new)?;
    Ok((one, other))
}

async fn ping_pong<B: Body>(teller: &Teller<'_, B>) -> Outcome {
    let (here, there) = pair(teller)?;
    // Who connects has one at once, for the other may have sent before.
    comes(teller, &there).await?;
    let serve = async {
        for _ in 0..PING_PONGS {
            here.notify(teller.at).map_err(Wrong::new)?;
            comes(teller, &here).await?;
        }
        Ok(())
    };
    let answer = async {
        for _ in 0..PING_PONGS {
            comes(teller, &there).await?;
            there.notify(teller.at).map_err(Wrong::new)?;
        }
        Ok(())
    };
    let (served, answered): (Outcome, Outcome) = join(pin!(serve), pin!(answer)).await;
    served.and(answered)?;
    comes_not(teller, &here).await?;
    comes_not(teller, &there).await
}

async fn coalesce<B: Body>(teller: &Teller<'_, B>) -> Outcome {
    let channel = teller.body.events().ipi(teller.at, 0).map_err(Wrong::new)?;
    for _ in 0..100 {
        channel.notify(teller.at).map_err(Wrong::new)?;
    }
    comes(teller, &channel).await?;
    comes_not(teller, &channel).await
}

async fn storm<B: Body>(teller: &Teller<'_, B>) -> Outcome {
    let mut channels: [Option<Of<B>>; STORM] = [const { None }; STORM];
    for channel in &mut channels {
        *channel = Some(teller.body.events().ipi(teller.at, 0).map_err(Wrong::new)?);
    }
    let there = || channels.iter().flatten();
    for round in 0..ROUNDS {
        // Every other round from the end, so that the order is not that of the ports.
        if round % 2 == 0 {
            there().try_for_each(|channel| channel.notify(teller.at).map_err(Wrong::new))?;
        } else {
            there().rev().try_for_each(|channel| channel.notify(teller.at).map_err(Wrong::new))?;
        }
        for channel in there() {
            comes(teller, channel).await?;
        }
    }
    let counted: u32 = there().map(|channel| channel.counts().events).sum();
    let sent = ROUNDS * u32::try_from(STORM).map_err(Wrong::new)?;
    holds(counted == sent, format_args!("{sent} events were sent, one after the other, and {counted} came"))
}

async fn lives<B: Body>(teller: &Teller<'_, B>) -> Outcome {
    let mut highest = EvtchnPort(0);
    for _ in 0..LIVES {
        let channel = teller.body.events().ipi(teller.at, 0).map_err(Wrong::new)?;
        channel.notify(teller.at).map_err(Wrong::new)?;
        comes(teller, &channel).await?;
        // This one is not taken before the channel is closed.
        channel.notify(teller.at).map_err(Wrong::new)?;
        highest = EvtchnPort(highest.0.max(channel.port().0));
    }
    holds(
        highest.0 < LIVES,
        format_args!("{LIVES} channels, one after the other, had ports up to {}", highest.0),
    )
}

fn virtual_interrupts<B: Body>(teller: &Teller<'_, B>) -> Outcome {
    let events = teller.body.events();
    let timer = events.virq(teller.at, VIRQ_TIMER, 0).map_err(Wrong::new)?;
    match events.virq(teller.at, VIRQ_TIMER, 0) {
        Err(OpenError::Xen(Errno::EEXIST)) => {}
        Err(error) => return Err(Wrong::new(error)),
        Ok(_) => return Err(Wrong::new("it has got two")),
    }
    drop(timer);
    events.virq(teller.at, VIRQ_TIMER, 0).map(drop).map_err(Wrong::new)
}

async fn priorities<B: Body>(teller: &Teller<'_, B>, order: &Order) -> Outcome {
    let channel = teller.body.events().ipi(teller.at, 0).map_err(Wrong::new)?;
    for priority in [Priority::HIGHEST, Priority::LOWEST] {
        match channel.set_priority(teller.at, priority) {
            Ok(()) if order.fifo => {}
            Err(ChannelError::Xen(Errno::ENOSYS)) if !order.fifo => {}
            other => return Err(Wrong::new(format_args!("with FIFO {}, it is {other:?}", order.fifo))),
        }
        channel.notify(teller.at).map_err(Wrong::new)?;
        comes(teller, &channel).await?;
    }
    Ok(())
}

/// Events of a channel that is bound to a virtual CPU come by upcalls of that one.
async fn bound<B: Body>(teller: &Teller<'_, B>, place: usize) -> Outcome {
    let (here, there) = pair(teller)?;
    comes(teller, &there).await?;
    let upcalls = here.bind(teller.at, place).map_err(Wrong::new)?;
    holds(upcalls == Upcalls::Own, format_args!("{upcalls:?}"))?;
    let before = teller.body.upcalls(place);
    for _ in 0..20 {
        // Who waits before the event is sent takes none that has come without an upcall.
        let send = async { there.notify(teller.at).map_err(Wrong::new) };
        let (waited, notified) = join(comes(teller, &here), send).await;
        notified.and(waited)?;
    }
    let came = teller.body.upcalls(place).wrapping_sub(before);
    holds(came >= 20, format_args!("of 20 events, {came} came there"))
}
