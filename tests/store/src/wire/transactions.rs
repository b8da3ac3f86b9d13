//! Transactions, by their numbers.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::MessageType::{
    Directory, GetPerms, Mkdir, Read, ResetWatches, Rm, TransactionEnd, TransactionStart, Write,
};

use super::{Wire, talk::Talk};
use crate::{
    difference::{Outcome, Step},
    ground::Ground,
};

pub(super) async fn have_a_number(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let [one, two, three] = [
        talk.start(at, Step("start one")).await?,
        talk.start(at, Step("start another")).await?,
        talk.start(at, Step("start a third")).await?,
    ];
    Step("compare numbers").holds(one != two && two != three && one != three, "three", "the same")?;
    // Each sees its own, and neither is told from the other by anything but its number.
    for (tx, value) in [(one, &b"/node\0one"[..]), (two, b"/node\0two")] {
        let step = Step("write inside");
        step.answered(b"OK\0", talk.ask_in(at, step, tx, Write, &[home, value]).await?)?;
    }
    for (tx, value) in [(two, b"two"), (one, b"one")] {
        let step = Step("read inside");
        step.answered(value, talk.ask_in(at, step, tx, Read, &[home, b"/node\0"]).await?)?;
    }
    let step = Step("read in the third");
    step.rejected("ENOENT", talk.ask_in(at, step, three, Read, &[home, b"/node\0"]).await?)?;
    talk.end(at, Step("give the second up"), two, b"F\0").await?;
    talk.end(at, Step("commit the first"), one, b"T\0").await?;
    let step = Step("read what was committed");
    step.answered(b"one", talk.ask(at, step, Read, &[home, b"/node\0"]).await?)?;
    talk.end(at, Step("give the third up"), three, b"F\0").await?;
    talk.order(at, Step("remove"), Rm, &[home, b"/node\0"]).await
}

/// Nothing can be done in it.
async fn is_dead(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &Ground<'_>,
    step: Step,
    tx: u32,
) -> Outcome {
    let (home, dead) = (ground.home.as_bytes(), ground.profile.dead_transaction);
    for kind in [Read, Directory, GetPerms, Write, Mkdir, Rm] {
        step.rejected(dead, talk.ask_in(at, step, tx, kind, &[home, b"\0"]).await?)?;
    }
    for end in [b"T\0", b"F\0"] {
        step.rejected(dead, talk.ask_in(at, step, tx, TransactionEnd, &[end]).await?)?;
    }
    step.rejected(dead, talk.ask_in(at, step, tx, TransactionStart, &[b"\0"]).await?)
}

pub(super) async fn that_are_no_more(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    is_dead(at, talk, ground, Step("use a number that never was one"), 0x0ABC_DEF0).await?;
    for end in [b"T\0", b"F\0"] {
        let tx = talk.start(at, Step("start")).await?;
        talk.end(at, Step("end"), tx, end).await?;
        is_dead(at, talk, ground, Step("use the number of one that has ended"), tx).await?;
    }
    for end in [b"T\0", b"F\0"] {
        let step = Step("end no transaction");
        step.rejected("ENOENT", talk.ask(at, step, TransactionEnd, &[end]).await?)?;
    }
    Ok(())
}

pub(super) async fn are_not_nested(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let tx = talk.start(at, Step("start")).await?;
    let step = Step("start another inside");
    step.rejected("EBUSY", talk.ask_in(at, step, tx, TransactionStart, &[b"\0"]).await?)?;
    let step = Step("write inside after that");
    step.answered(b"OK\0", talk.ask_in(at, step, tx, Write, &[home, b"/node\0value"]).await?)?;
    talk.end(at, Step("commit after that"), tx, b"T\0").await?;
    let step = Step("read what was committed");
    step.answered(b"value", talk.ask(at, step, Read, &[home, b"/node\0"]).await?)?;
    talk.order(at, Step("remove"), Rm, &[home, b"/node\0"]).await
}

pub(super) async fn that_are_overtaken(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    for below in [b"/read\0one", b"/read\0two"] {
        talk.order(at, Step("write"), Write, &[home, below]).await?;
    }
    let tx = talk.start(at, Step("start")).await?;
    let step = Step("read inside");
    step.answered(b"two", talk.ask_in(at, step, tx, Read, &[home, b"/read\0"]).await?)?;
    let step = Step("write inside");
    step.answered(b"OK\0", talk.ask_in(at, step, tx, Write, &[home, b"/read/below\0value"]).await?)?;
    talk.order(at, Step("write outside what was read inside"), Write, &[home, b"/read\0three"]).await?;
    let step = Step("commit what was overtaken");
    step.rejected("EAGAIN", talk.ask_in(at, step, tx, TransactionEnd, &[b"T\0"]).await?)?;
    is_dead(at, talk, ground, Step("use the number of one that was overtaken"), tx).await?;
    let step = Step("read what was not committed");
    step.rejected("ENOENT", talk.ask(at, step, Read, &[home, b"/read/below\0"]).await?)?;
    let step = Step("read what has overtaken it");
    step.answered(b"three", talk.ask(at, step, Read, &[home, b"/read\0"]).await?)?;
    talk.order(at, Step("remove"), Rm, &[home, b"/read\0"]).await
}

pub(super) async fn end_by_a_letter(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let tx = talk.start(at, Step("start")).await?;
    let step = Step("write inside");
    step.answered(b"OK\0", talk.ask_in(at, step, tx, Write, &[home, b"/node\0"]).await?)?;
    for other in [&b""[..], b"\0", b"X\0", b"t\0", b"TRUE\0", b"1\0"] {
        let step = Step("end by something else than a letter");
        step.rejected("EINVAL", talk.ask_in(at, step, tx, TransactionEnd, &[other]).await?)?;
    }
    let step = Step("read outside");
    step.rejected("ENOENT", talk.ask(at, step, Read, &[home, b"/node\0"]).await?)?;
    talk.end(at, Step("commit"), tx, b"T\0").await?;
    let step = Step("read what was committed");
    step.answered(b"", talk.ask(at, step, Read, &[home, b"/node\0"]).await?)?;
    talk.order(at, Step("remove"), Rm, &[home, b"/node\0"]).await
}

pub(super) async fn are_not_many(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let quota = ground.profile.transactions;
    let mut tx = 0;
    for _ in 0..quota.most {
        tx = talk.start(at, Step("start one of many")).await?;
    }
    let step = Step("start one more");
    step.rejected(quota.refusal, talk.ask(at, step, TransactionStart, &[b"\0"]).await?)?;
    talk.end(at, Step("end one"), tx, b"F\0").await?;
    talk.start(at, Step("start another instead")).await?;
    let step = Step("start one more");
    step.rejected(quota.refusal, talk.ask(at, step, TransactionStart, &[b"\0"]).await?)?;
    talk.order(at, Step("reset"), ResetWatches, &[b"\0"]).await
}

pub(super) async fn go_with_the_watches(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let tx = talk.start(at, Step("start")).await?;
    let step = Step("write inside");
    step.answered(b"OK\0", talk.ask_in(at, step, tx, Write, &[home, b"/node\0"]).await?)?;
    talk.order(at, Step("reset"), ResetWatches, &[b"\0"]).await?;
    is_dead(at, talk, ground, Step("use the number of one that was reset"), tx).await?;
    let step = Step("read what was not committed");
    step.rejected("ENOENT", talk.ask(at, step, Read, &[home, b"/node\0"]).await?)
}
