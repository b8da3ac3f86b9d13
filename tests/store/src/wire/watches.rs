//! Watches, with their paths and tokens.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::{
    Header,
    MessageType::{self, Mkdir, Read, ResetWatches, Rm, Unwatch, Watch, Write},
    XENSTORE_RING_SIZE,
};

use super::{
    Wire,
    talk::{Event, Talk},
};
use crate::{
    difference::{Outcome, Step, Told},
    ground::{Ground, fill},
};

/// An event of a node below another.
fn event(above: &str, below: &str, token: &str) -> Event {
    Event::new(format_args!("{above}{below}"), token)
}

pub(super) async fn have_a_token(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let path = ground.absolute(Step("put the path together"))?;
    let home = path.as_bytes();
    for token in ["t", "", "a token: any/string, @all\u{FC}", "0123456789abcdef0123456789abcdef0123456789"] {
        let watch = &[home, b"\0", token.as_bytes(), b"\0"];
        talk.order(at, Step("watch"), Watch, watch).await?;
        let step = Step("look for the first event");
        talk.expect_events(at, step, &[event(&path, "", token)]).await?;
        talk.order(at, Step("write"), Write, &[home, b"\0value"]).await?;
        talk.order(at, Step("make below"), Mkdir, &[home, b"/a/b\0"]).await?;
        let step = Step("look for events of what was changed");
        talk.expect_events(at, step, &[event(&path, "", token), event(&path, "/a/b", token)]).await?;
        talk.order(at, Step("remove below"), Rm, &[home, b"/a\0"]).await?;
        let step = Step("look for an event of what was removed");
        talk.expect_events(at, step, &[event(&path, "/a", token)]).await?;
        talk.order(at, Step("watch no longer"), Unwatch, watch).await?;
    }
    Ok(())
}

pub(super) async fn that_are_relative(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let path = ground.absolute(Step("put the path together"))?;
    let (relative, absolute) = (ground.home.as_bytes(), path.as_bytes());
    talk.order(at, Step("watch a relative path"), Watch, &[relative, b"\0relative\0"]).await?;
    talk.order(at, Step("watch an absolute path"), Watch, &[absolute, b"\0absolute\0"]).await?;
    let both = |below| [event(ground.home, below, "relative"), event(&path, below, "absolute")];
    talk.expect_events(at, Step("look for the first events"), &both("")).await?;
    talk.order(at, Step("write by the absolute path"), Write, &[absolute, b"/a\0"]).await?;
    talk.expect_events(at, Step("look for events"), &both("/a")).await?;
    talk.order(at, Step("remove by the relative path"), Rm, &[relative, b"/a\0"]).await?;
    talk.expect_events(at, Step("look for events"), &both("/a")).await?;
    talk.order(at, Step("watch no longer"), Unwatch, &[relative, b"\0relative\0"]).await?;
    talk.order(at, Step("watch no longer"), Unwatch, &[absolute, b"\0absolute\0"]).await
}

pub(super) async fn of_whole_names(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    const OTHERS: [&[u8]; 4] = [b"/nod\0", b"/node2\0", b"/node-/a\0", b"/other/node\0"];
    let home = ground.home.as_bytes();
    talk.order(at, Step("watch"), Watch, &[home, b"/node\0token\0"]).await?;
    let step = Step("look for the first event");
    talk.expect_events(at, step, &[event(ground.home, "/node", "token")]).await?;
    for other in OTHERS {
        talk.order(at, Step("write elsewhere"), Write, &[home, other]).await?;
    }
    talk.order(at, Step("write the node above"), Write, &[home, b"\0"]).await?;
    for other in [b"/nod\0".as_slice(), b"/node2\0", b"/node-\0", b"/other\0"] {
        talk.order(at, Step("remove elsewhere"), Rm, &[home, other]).await?;
    }
    talk.expect_events(at, Step("look for events of what was elsewhere"), &[]).await?;
    talk.order(at, Step("watch no longer"), Unwatch, &[home, b"/node\0token\0"]).await
}

pub(super) async fn of_a_parent_that_goes(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let all = [("", "home"), ("/t", "top"), ("/t/a", "middle"), ("/t/a/b", "bottom")];
    talk.order(at, Step("make"), Mkdir, &[home, b"/t/a/b\0"]).await?;
    for (below, token) in all {
        let watch = &[home, below.as_bytes(), b"\0", token.as_bytes(), b"\0"];
        talk.order(at, Step("watch"), Watch, watch).await?;
    }
    let step = Step("look for the first events");
    talk.expect_events(at, step, &all.map(|(below, token)| event(ground.home, below, token))).await?;
    talk.order(at, Step("remove the top"), Rm, &[home, b"/t\0"]).await?;
    // Each of those below is told of its own path, those above of what was removed.
    let events = [("/t", "home"), ("/t", "top"), ("/t/a", "middle"), ("/t/a/b", "bottom")];
    let step = Step("look for the events of a removal");
    talk.expect_events(at, step, &events.map(|(below, token)| event(ground.home, below, token))).await?;
    talk.order(at, Step("reset watches"), ResetWatches, &[b"\0"]).await
}

pub(super) async fn of_a_commit(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    talk.order(at, Step("make"), Mkdir, &[home, b"/removed/below\0"]).await?;
    talk.order(at, Step("watch"), Watch, &[home, b"\0token\0"]).await?;
    talk.expect_events(at, Step("look for the first event"), &[event(ground.home, "", "token")]).await?;
    for (end, paths) in [(b"F\0", &[][..]), (b"T\0", &["/written", "/made/below", "/removed"])] {
        let tx = talk.start(at, Step("start a transaction")).await?;
        for (kind, below) in [(Write, &b"/written\0"[..]), (Mkdir, b"/made/below\0"), (Rm, b"/removed\0")] {
            let step = Step("change something inside");
            step.answered(b"OK\0", talk.ask_in(at, step, tx, kind, &[home, below]).await?)?;
        }
        talk.expect_events(at, Step("look for events before the end"), &[]).await?;
        talk.end(at, Step("end the transaction"), tx, end).await?;
        let mut events = [event(ground.home, "", ""); 3];
        for (place, path) in events.iter_mut().zip(paths) {
            *place = event(ground.home, path, "token");
        }
        talk.expect_events(at, Step("look for events after the end"), &events[..paths.len()]).await?;
    }
    talk.order(at, Step("watch no longer"), Unwatch, &[home, b"\0token\0"]).await?;
    talk.order(at, Step("remove"), Rm, &[home, b"/written\0"]).await?;
    talk.order(at, Step("remove"), Rm, &[home, b"/made\0"]).await
}

pub(super) async fn that_cannot_be_told(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    /// Bytes of a value that fills the ring, in whichever direction it goes.
    const LONG: usize = XENSTORE_RING_SIZE as usize;
    /// A reply, changes, and a request that is not taken to its end before they are dealt with.
    const REQUESTS: [(MessageType, &[u8], usize); 5] = [
        (Read, b"/long\0", 0),
        (Write, b"/a\0one", 0),
        (Write, b"/a\0two", 0),
        (Write, b"/a\0three", 0),
        (Write, b"/long\0", LONG),
    ];
    let home = ground.home.as_bytes();
    let value = &mut ground.room[..LONG];
    fill(value, 1);
    talk.order(at, Step("write a long value"), Write, &[home, b"/long\0", value]).await?;
    talk.order(at, Step("watch"), Watch, &[home, b"\0token\0"]).await?;
    talk.expect_events(at, Step("look for the first event"), &[event(ground.home, "", "token")]).await?;

    let step = Step("write three times, and take nothing meanwhile");
    for (kind, below, length) in REQUESTS {
        let header = Header { r#type: kind as u32, req_id: talk.next_id(), tx_id: 0, len: 0 };
        talk.send(at, step, header, &[home, below, &value[..length]]).await?;
    }
    for _ in REQUESTS {
        step.accepted(talk.reply(at, step).await?)?;
    }
    let came = talk.events(at, step).await?.count_of(&event(ground.home, "/a", "token"));
    let expected = if ground.profile.merges_events { 1 } else { 3 };
    step.equal((expected, "events"), (came, "events"))?;
    talk.order(at, Step("watch no longer"), Unwatch, &[home, b"\0token\0"]).await?;
    for below in [b"/a\0".as_slice(), b"/long\0"] {
        talk.order(at, Step("remove"), Rm, &[home, below]).await?;
    }
    Ok(())
}

pub(super) async fn are_set_once(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let path = ground.absolute(Step("put the path together"))?;
    let home = ground.home.as_bytes();
    talk.order(at, Step("watch"), Watch, &[home, b"\0one\0"]).await?;
    for same in [home, path.as_bytes()] {
        let step = Step("watch the same");
        step.rejected("EEXIST", talk.ask(at, step, Watch, &[same, b"\0one\0"]).await?)?;
    }
    talk.order(at, Step("watch by another token"), Watch, &[home, b"\0two\0"]).await?;
    talk.order(at, Step("watch another node"), Watch, &[home, b"/a\0one\0"]).await?;
    let events =
        [event(ground.home, "", "one"), event(ground.home, "", "two"), event(ground.home, "/a", "one")];
    talk.expect_events(at, Step("look for the first events"), &events).await?;
    talk.order(at, Step("reset watches"), ResetWatches, &[b"\0"]).await
}

pub(super) async fn are_removed(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let path = ground.absolute(Step("put the path together"))?;
    let home = ground.home.as_bytes();
    talk.order(at, Step("watch"), Watch, &[home, b"\0one\0"]).await?;
    for other in [&b"\0two\0"[..], b"\0\0", b"/a\0one\0"] {
        let step = Step("remove a watch that is not set");
        step.rejected("ENOENT", talk.ask(at, step, Unwatch, &[home, other]).await?)?;
    }
    talk.expect_events(at, Step("look for the first event"), &[event(ground.home, "", "one")]).await?;
    talk.order(at, Step("write"), Write, &[home, b"\0"]).await?;
    talk.expect_events(at, Step("look for an event"), &[event(ground.home, "", "one")]).await?;
    talk.order(at, Step("remove by the absolute path"), Unwatch, &[path.as_bytes(), b"\0one\0"]).await?;
    let step = Step("remove it again");
    step.rejected("ENOENT", talk.ask(at, step, Unwatch, &[home, b"\0one\0"]).await?)?;
    talk.order(at, Step("write"), Write, &[home, b"\0"]).await?;
    talk.expect_events(at, Step("look for events of no watch"), &[]).await?;
    talk.order(at, Step("watch again"), Watch, &[home, b"\0one\0"]).await?;
    talk.expect_events(at, Step("look for the first event"), &[event(ground.home, "", "one")]).await?;
    talk.order(at, Step("remove by the relative path"), Unwatch, &[home, b"\0one\0"]).await
}

pub(super) async fn end_with_their_removal(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    talk.order(at, Step("watch"), Watch, &[home, b"\0token\0"]).await?;
    let step = Step("write, and watch no longer, without waiting");
    for below in [b"/a\0", b"/b\0", b"/c\0"] {
        let header = Header { r#type: Write as u32, req_id: talk.next_id(), tx_id: 0, len: 0 };
        talk.send(at, step, header, &[home, below]).await?;
    }
    let last = talk.next_id();
    let header = Header { r#type: Unwatch as u32, req_id: last, tx_id: 0, len: 0 };
    talk.send(at, step, header, &[home, b"\0token\0"]).await?;
    for _ in 0..4 {
        let reply = talk.reply(at, step).await?;
        let is_last = reply.header.req_id == last;
        step.answered(b"OK\0", reply)?;
        if is_last {
            // Up to here there may be any.
            talk.forget_events();
        }
    }
    talk.order(at, Step("write"), Write, &[home, b"/a\0"]).await?;
    talk.expect_events(at, Step("look for events of a watch that was removed"), &[]).await?;
    for below in [b"/a\0", b"/b\0", b"/c\0"] {
        talk.order(at, Step("remove"), Rm, &[home, below]).await?;
    }
    Ok(())
}

pub(super) async fn are_reset(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    for watch in [b"\0one\0", b"\0two\0"] {
        talk.order(at, Step("watch"), Watch, &[home, watch]).await?;
    }
    let first = [event(ground.home, "", "one"), event(ground.home, "", "two")];
    talk.expect_events(at, Step("look for the first events"), &first).await?;
    talk.order(at, Step("reset watches"), ResetWatches, &[b"\0"]).await?;
    talk.order(at, Step("write"), Write, &[home, b"\0"]).await?;
    talk.expect_events(at, Step("look for events after that"), &[]).await?;
    let step = Step("remove a watch that was reset");
    step.rejected("ENOENT", talk.ask(at, step, Unwatch, &[home, b"\0one\0"]).await?)?;
    talk.order(at, Step("watch again"), Watch, &[home, b"\0one\0"]).await?;
    talk.expect_events(at, Step("look for the first event"), &first[..1]).await?;
    talk.order(at, Step("reset watches"), ResetWatches, &[b"\0"]).await
}

pub(super) async fn are_limited(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let (home, quota) = (ground.home.as_bytes(), ground.profile.watches);
    let token = |number: usize| Told::of(format_args!("\0{number}\0"));
    for number in 0..quota.most {
        let watch = token(number);
        talk.order(at, Step("set one of many watches"), Watch, &[home, watch.as_str().as_bytes()]).await?;
    }
    let step = Step("look for the first event of each");
    let count = talk.events(at, step).await?.count;
    step.holds(count >= quota.most, "as many events", count)?;

    let one_more = token(quota.most);
    let one_more = &[home, one_more.as_str().as_bytes()];
    let step = Step("set one more");
    step.rejected(quota.refusal, talk.ask(at, step, Watch, one_more).await?)?;
    talk.order(at, Step("remove one"), Unwatch, &[home, token(0).as_str().as_bytes()]).await?;
    talk.order(at, Step("set another instead"), Watch, one_more).await?;
    talk.order(at, Step("reset watches"), ResetWatches, &[b"\0"]).await
}

pub(super) async fn have_a_depth(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    if !ground.profile.has_depth {
        let step = Step("watch with a depth, where there is none");
        return step.rejected("EINVAL", talk.ask(at, step, Watch, &[home, b"\0token\x001\0"]).await?);
    }
    let below = ["", "/a", "/a/b", "/a/b/c"];
    for (depth, levels) in [("0", 1), ("1", 2), ("2", 3)] {
        let watch = &[home, b"\0", depth.as_bytes(), b"\0", depth.as_bytes(), b"\0"];
        talk.order(at, Step("watch with a depth"), Watch, watch).await?;
        let step = Step("look for the first event");
        talk.expect_events(at, step, &[event(ground.home, "", depth)]).await?;
        for path in below {
            talk.order(at, Step("write"), Write, &[home, path.as_bytes(), b"\0"]).await?;
        }
        let step = Step("look for events of what is not too deep");
        let events = below.map(|path| event(ground.home, path, depth));
        talk.expect_events(at, step, &events[..levels]).await?;
        let step = Step("watch no longer, without the depth");
        talk.order(at, step, Unwatch, &[home, b"\0", depth.as_bytes(), b"\0"]).await?;
    }
    talk.order(at, Step("remove"), Rm, &[home, b"/a\0"]).await
}

pub(super) async fn are_in_no_transaction(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    const NO_TRANSACTION: u32 = 0x00AB_CDEF;
    let home = ground.home.as_bytes();
    let tx_id = if ground.profile.watch_has_transaction { NO_TRANSACTION } else { 0 };
    for kind in [Watch, Unwatch] {
        let step = Step("watch in a transaction that is none");
        let header = Header { r#type: kind as u32, req_id: talk.next_id(), tx_id: NO_TRANSACTION, len: 0 };
        talk.send(at, step, header, &[home, b"\0token\0"]).await?;
        let reply = talk.reply(at, step).await?;
        step.equal(Header { tx_id, len: 3, ..header }, reply.header)?;
        step.answered(b"OK\0", reply)?;
    }
    talk.expect_events(at, Step("look for the first event"), &[event(ground.home, "", "token")]).await
}
