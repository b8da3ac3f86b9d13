//! Pages that the control domain maps, and events that it sends: `../../peer` is its side.
//!
//! | node | what the peer is told |
//! |---|---|
//! | `data/lab/port` | the guest's end of an event channel |
//! | `data/lab/grants` | references of pages, in their order |

use core::{fmt, time::Duration};

use kexec::time::{sleep, timeout};
use xen_abi::{
    domid::DomId,
    seam::{Access, PAGE_SIZE, Place},
};
use xenbus::{
    event::Channel,
    grant::{GrantCache, Peer, Rights, Shared},
    page::Ram,
    store::{Text, Xenstore as _},
};

use crate::{
    Body,
    teller::{Outcome, Teller, Wrong, holds},
};

/// The control domain.
const CONTROL_DOMAIN: Peer = Peer::trusted(DomId(0));

const PORT: &str = "data/lab/port";
const GRANTS: &str = "data/lab/grants";

const PAGES: usize = 8;
const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// How long the control domain may take to do its part.
const PATIENCE: Duration = Duration::from_mins(1);

type Page<B> = Shared<<B as Body>::Platform>;
type Cache<B> = GrantCache<<B as Body>::Platform, PAGES>;

pub(crate) async fn play<B: Body>(teller: &mut Teller<'_, B>) {
    let mut cache = GrantCache::new(teller.body.grants());
    let mut pages: [Option<Page<B>>; PAGES] = [const { None }; PAGES];
    let channel = match share(teller, &mut cache, &mut pages).await {
        Ok(channel) => channel,
        Err(wrong) => return teller.check("pages are shared", Err(wrong)).await,
    };
    teller.tell("shared").await;
    let outcome = answered(teller, &channel, &pages).await;
    teller.check("the control domain reads and writes pages that it was granted", outcome).await;
    let outcome = held(teller, &mut cache, &mut pages);
    teller.check("pages that are mapped are not taken back", outcome).await;
    teller.tell("held").await;
    let outcome = taken_back(teller, &mut cache, &mut pages).await;
    teller.check("pages are taken back when they are let go of", outcome).await;
    drop(pages);
    drop(cache);
    let counters = teller.body.grants().counters();
    let is_clean = (counters.quarantined, counters.leaked, counters.held, counters.kept) == (0, 0, 0, 0);
    teller.check("no page is lost", holds(is_clean, format_args!("{counters:?}"))).await;
}

/// The control domain answers each event, once, and with the number that it finds.
pub(crate) async fn echo<B: Body>(teller: &mut Teller<'_, B>) {
    let outcome = be_answered(teller).await;
    teller.check("each event is answered", outcome).await;
}

/// The control domain counts in a page and sends an event for each number, as fast as it can: whatever comes of that,
/// the last number is seen, for an event comes after it.
pub(crate) async fn storm<B: Body>(teller: &mut Teller<'_, B>) {
    let outcome = endure(teller).await;
    teller.check("the last event of a storm is not lost", outcome).await;
}

/// Where one end counts, and where the other says how far it has seen it count.
const COUNT: Place<u64> = Place::new(0);
const SEEN: Place<u64> = Place::new(8);
/// How far the peer is to count: as in the scenario.
const STORM: u64 = 20_000;
/// How far the guest counts.
const PINGS: u64 = 200;

async fn be_answered<B: Body>(teller: &mut Teller<'_, B>) -> Outcome {
    let mut cache: Cache<B> = GrantCache::new(teller.body.grants());
    let page = page_of(teller, &mut cache)?;
    let channel = open(teller, page.reference().0).await?;
    teller.tell("ready").await;
    // Xen tells who connects of an event, which is answered before there is a question.
    comes(teller, &channel).await?;
    for ping in 1..=PINGS {
        page.store(COUNT, ping);
        channel.notify(teller.at).map_err(Wrong::new)?;
        comes(teller, &channel).await?;
        let pong = page.load(SEEN);
        holds(pong == ping, format_args!("the answer to {ping} is {pong}"))?;
    }
    drop(channel);
    teller.tell("answered").await;
    taken_back(teller, &mut cache, &mut [Some(page)]).await
}

/// Waits for an event that is to come.
async fn comes<B: Body>(teller: &Teller<'_, B>, channel: &Channel<B::Platform>) -> Outcome {
    let event = timeout(PATIENCE, channel.wait(teller.at)).await;
    event.map_err(|_| Wrong::new(format_args!("no event for {PATIENCE:?}")))?.map_err(Wrong::new)
}

async fn endure<B: Body>(teller: &mut Teller<'_, B>) -> Outcome {
    let at = teller.at;
    let mut cache: Cache<B> = GrantCache::new(teller.body.grants());
    let page = page_of(teller, &mut cache)?;
    let channel = open(teller, page.reference().0).await?;
    teller.tell("ready").await;
    let (mut last, mut events) = (0, 0_u32);
    while last < STORM {
        let event = timeout(PATIENCE, channel.wait(at)).await;
        let silent =
            |_| Wrong::new(format_args!("no event for {PATIENCE:?}, after {events}; the count is {last}"));
        event.map_err(silent)?.map_err(Wrong::new)?;
        events += 1;
        let count = page.load(COUNT);
        holds(count >= last, format_args!("after {last}, the count is {count}"))?;
        last = count;
        page.store(SEEN, count);
    }
    teller.body.say(at, format_args!("{STORM} events were {events}")).await;
    drop(channel);
    // The peer ends with the last.
    taken_back(teller, &mut cache, &mut [Some(page)]).await
}

/// A page that is shared with the control domain.
fn page_of<B: Body>(teller: &Teller<'_, B>, cache: &mut Cache<B>) -> Outcome<Page<B>> {
    let page = Ram::allocate(teller.body.platform()).map_err(|_| Wrong::new("there is no memory"))?;
    let shared = Shared::new(cache, teller.at, CONTROL_DOMAIN, page, Rights::Write);
    let shared = shared.map_err(|refused| Wrong::new(refused.error))?;
    for word in 0..WORDS {
        shared.store(place(word)?, 0);
    }
    Ok(shared)
}

fn place(word: usize) -> Outcome<Place<u64>> {
    Place::at(word * size_of::<u64>()).ok_or_else(|| Wrong::new("a word lies in its page"))
}

/// An event channel for the peer, which is told of that, and of what is granted.
async fn open<B: Body>(teller: &Teller<'_, B>, grants: impl fmt::Display) -> Outcome<Channel<B::Platform>> {
    let (at, store) = (teller.at, teller.body.store());
    let channel = teller.body.events().unbound(at, DomId(0)).map_err(Wrong::new)?;
    store.print(at, GRANTS, grants).await?;
    store.print(at, PORT, channel.port().0).await?;
    Ok(channel)
}

fn pattern(page: usize, word: usize) -> u64 {
    (page as u64) << 32 | word as u64
}

async fn share<B: Body>(
    teller: &Teller<'_, B>,
    cache: &mut Cache<B>,
    pages: &mut [Option<Page<B>>; PAGES],
) -> Outcome<Channel<B::Platform>> {
    for (number, page) in pages.iter_mut().enumerate() {
        let shared = page_of(teller, cache)?;
        for word in 0..WORDS {
            shared.store(place(word)?, pattern(number, word));
        }
        *page = Some(shared);
    }
    let references =
        fmt::from_fn(|f| pages.iter().flatten().try_for_each(|page| write!(f, "{} ", page.reference().0)));
    let references: Text<96> = Text::of(references).map_err(|_| Wrong::new("references are short"))?;
    open(teller, references.trim_end()).await
}

async fn answered<B: Body>(
    teller: &Teller<'_, B>,
    channel: &Channel<B::Platform>,
    pages: &[Option<Page<B>>; PAGES],
) -> Outcome {
    comes(teller, channel).await?;
    for (number, page) in pages.iter().flatten().enumerate() {
        for word in 0..WORDS {
            let (is, wanted) = (page.load(place(word)?), !pattern(number, word));
            holds(
                is == wanted,
                format_args!("word {word} of page {number} is {is:#x}, and not {wanted:#x}"),
            )?;
        }
    }
    Ok(())
}

/// Tries to end each share; those that cannot stay.
fn end_all<B: Body>(teller: &Teller<'_, B>, cache: &mut Cache<B>, pages: &mut [Option<Page<B>>]) -> usize {
    for page in pages.iter_mut() {
        *page = page.take().and_then(|page| page.end(cache, teller.at).err()).map(|held| held.what);
    }
    pages.iter().flatten().count()
}

fn held<B: Body>(
    teller: &Teller<'_, B>,
    cache: &mut Cache<B>,
    pages: &mut [Option<Page<B>>; PAGES],
) -> Outcome {
    let left = end_all(teller, cache, pages);
    holds(left == PAGES, format_args!("of {PAGES} that are mapped, {left} were refused"))
}

async fn taken_back<B: Body>(
    teller: &Teller<'_, B>,
    cache: &mut Cache<B>,
    pages: &mut [Option<Page<B>>],
) -> Outcome {
    let all = async {
        while end_all(teller, cache, pages) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.map_err(|_| Wrong::new(format_args!("some are held for {PATIENCE:?}")))
}
