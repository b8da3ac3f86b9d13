//! What is done with the guest's pages, and what is expected of the guest.
//!
//! All numbers in pages are of 64 bits, little-endian.
#![forbid(unsafe_code)]

use std::{
    io::{self, Read, Write as _},
    sync::atomic::Ordering::{Acquire, Release},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::retry_on_intr,
};

use crate::{
    device::{Grants, Page, Port},
    order::{Order, Play},
};

/// The word that says how many events there were, and the one that says how many were seen.
const TOLD: usize = 0;
const SEEN: usize = 1;

/// How long a guest may take to see the last event: much longer than it does on a machine that is played by a program.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often that is looked at.
const GLANCE: Duration = Duration::from_millis(2);

pub(crate) fn carry_out(order: &Order) -> Result<()> {
    let Order { domain, port, play } = order;
    let port = Port::bind(*domain, *port)?;
    let grants = Grants::open()?;
    match play {
        Play::Hold { references } => hold(&port, &grants, *domain, references),
        Play::Storm { reference, count } => {
            let count = count.get();
            let page = grants.map(*domain, *reference)?;
            storm(&page, count, || port.notify())?;
            all_seen(&page, count, PATIENCE)?;
            say(&format!("{count} events told"))
        }
        Play::Echo { reference } => echo(&port, &*grants.map(*domain, *reference)?),
    }
}

fn hold(port: &Port, grants: &Grants, domain: u16, references: &[u32]) -> Result<()> {
    let mapped = references.iter().map(|reference| grants.map(domain, *reference));
    let mapped = mapped.collect::<Result<Vec<_>>>()?;
    let pages: Vec<&Page> = mapped.iter().map(|grant| &**grant).collect();
    exchange(&pages)?;
    port.notify()?;
    say(&format!("holding {} pages", pages.len()))?;
    until_end(io::stdin().lock())?;
    mapped.into_iter().try_for_each(|grant| grants.unmap(grant))
}

/// Checks what the guest has written to its pages, and only then answers in them.
fn exchange(pages: &[&Page]) -> Result<()> {
    for (number, page) in (0..).zip(pages) {
        for (word, place) in (0..).zip(page.iter()) {
            let (found, expected) = (u64::from_le(place.load(Acquire)), pattern(number, word));
            ensure!(found == expected, "word {word} of page {number} is {found:#x}, and not {expected:#x}");
        }
    }
    for (number, page) in (0..).zip(pages) {
        for (word, place) in (0..).zip(page.iter()) {
            place.store((!pattern(number, word)).to_le(), Release);
        }
    }
    Ok(())
}

/// What the guest writes, so that no page and no word is like another.
const fn pattern(page: u64, word: u64) -> u64 {
    page << 32 | word
}

/// Tells the guest so many numbers, each with an event of its own, faster than it can take them.
fn storm(page: &Page, count: u64, notify: impl Fn() -> Result<()>) -> Result<()> {
    for number in 1..=count {
        page[TOLD].store(number.to_le(), Release);
        notify().with_context(|| format!("event {number} of {count}"))?;
    }
    Ok(())
}

/// Waits until the guest has seen the last of the events that it was told.
fn all_seen(page: &Page, count: u64, patience: Duration) -> Result<()> {
    let begin = Instant::now();
    loop {
        let seen = u64::from_le(page[SEEN].load(Acquire));
        if seen == count {
            return Ok(());
        }
        ensure!(seen < count, "the guest says that it has seen event {seen}, and there were {count}");
        if begin.elapsed() >= patience {
            bail!("the guest has seen event {seen} of {count} after {} s", patience.as_secs());
        }
        thread::sleep(GLANCE);
    }
}

/// Answers each event, the one that comes of binding included, until there is no more input.
fn echo(port: &Port, page: &Page) -> Result<()> {
    let input = io::stdin();
    loop {
        let mut sources = [PollFd::new(port, PollFlags::IN), PollFd::new(&input, PollFlags::IN)];
        retry_on_intr(|| poll(&mut sources, None)).context("poll")?;
        let [event, end] = sources.map(|source| !source.revents().is_empty());
        if event {
            port.take()?;
            answer(page);
            port.notify()?;
        }
        // Past the standard library's buffer, which `poll` knows nothing of.
        if end && retry_on_intr(|| rustix::io::read(&input, &mut [0; 64])).context("the input")? == 0 {
            return Ok(());
        }
    }
}

fn answer(page: &Page) {
    // As it stands there: it goes back to who has written it.
    page[SEEN].store(page[TOLD].load(Acquire), Release);
}

fn until_end(mut input: impl Read) -> Result<()> {
    io::copy(&mut input, &mut io::sink()).context("the input")?;
    Ok(())
}

fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("the output")
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, os::fd::OwnedFd, sync::atomic::Ordering::Relaxed};

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    /// Two pages in a row, as the guest has them and as this end has them mapped.
    fn shared() -> [[Page; 2]; 2] {
        let file: OwnedFd = memfd_create("pages", MemfdFlags::CLOEXEC).expect("there is memory");
        ftruncate(&file, 2 * 4096).expect("there is memory");
        [(); 2].map(|()| [0, 4096].map(|offset| Page::map(&file, offset).expect("it is that large")))
    }

    fn write(pages: &[Page]) {
        for (number, page) in (0..).zip(pages) {
            for (word, place) in (0..).zip(page.iter()) {
                place.store(pattern(number, word).to_le(), Relaxed);
            }
        }
    }

    /// The pattern is an agreement with the guest: these are its numbers, not what some function returns.
    #[test]
    fn the_complement_is_for_the_guest_to_see() {
        let [guest, [first, second]] = shared();
        write(&guest);
        assert_eq!(guest[1][5].load(Relaxed), 0x1_0000_0005);
        exchange(&[&first, &second]).expect("that is the pattern");
        for (page, word, seen) in [
            (0, 0, 0xFFFF_FFFF_FFFF_FFFF),
            (0, 511, 0xFFFF_FFFF_FFFF_FE00),
            (1, 0, 0xFFFF_FFFE_FFFF_FFFF),
            (1, 511, 0xFFFF_FFFE_FFFF_FE00),
        ] {
            assert_eq!(guest[page][word].load(Relaxed), seen, "word {word} of page {page}");
        }
    }

    /// A page that is another's, or stale in one word, is named; and the guest's pages are as they were.
    #[test]
    fn a_wrong_word_is_named_and_nothing_is_written() {
        let [guest, [first, second]] = shared();
        write(&guest);
        guest[1][511].store(7, Relaxed);
        let message = exchange(&[&first, &second]).expect_err("it is wrong").to_string();
        assert_eq!(message, "word 511 of page 1 is 0x7, and not 0x1000001ff");
        assert_eq!(guest[0][1].load(Relaxed), 1);
        guest[1][511].store(pattern(1, 511), Relaxed);
        exchange(&[&second, &first]).expect_err("they are the wrong way round");
    }

    /// Each event has its number in the page by the time that the guest is notified of it.
    #[test]
    fn a_storm_tells_each_number_once() {
        let [[guest, _], [page, _]] = shared();
        let told = Cell::new(0);
        storm(&page, 5, || {
            told.set(told.get() + 1);
            assert_eq!(guest[TOLD].load(Relaxed), told.get());
            Ok(())
        })
        .expect("nobody refuses");
        assert_eq!(told.get(), 5);
        let message = storm(&page, 5, || bail!("no port")).expect_err("it was refused");
        assert_eq!(format!("{message:#}"), "event 1 of 5: no port");
    }

    /// Neither a guest that stands still nor one that runs ahead of the events passes, and both are told apart.
    #[test]
    fn what_the_guest_has_seen_is_named() {
        let [[guest, _], [page, _]] = shared();
        let seen = |number| {
            guest[SEEN].store(number, Relaxed);
            all_seen(&page, 5, Duration::ZERO).map_err(|error| error.to_string())
        };
        assert_eq!(seen(5), Ok(()));
        assert_eq!(seen(4), Err("the guest has seen event 4 of 5 after 0 s".into()));
        assert_eq!(seen(6), Err("the guest says that it has seen event 6, and there were 5".into()));
    }

    /// The guest's word is at the start of the page, and its answer eight bytes on.
    #[test]
    fn an_answer_is_the_number_itself() {
        let [[guest, _], [page, _]] = shared();
        guest[0].store(0xFEDC_BA98_7654_3210, Relaxed);
        answer(&page);
        assert_eq!(guest[1].load(Relaxed), 0xFEDC_BA98_7654_3210);
    }

    /// Whatever comes before the end is passed over.
    #[test]
    fn input_is_waited_out() {
        let mut input: &[u8] = b"words\n";
        until_end(&mut input).expect("it can be read");
        assert!(input.is_empty());
    }
}
