//! Lists in parts.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::MessageType::{DirectoryPart, Mkdir, Rm};
use xenbus::store::Excerpt;

use super::{Wire, talk::Talk};
use crate::{
    difference::{Outcome, Step, Told},
    ground::Ground,
};

pub(super) async fn of_a_list(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    if !ground.profile.has_parts {
        let step = Step("ask for a part, where there are none");
        return step.rejected("ENOSYS", talk.ask(at, step, DirectoryPart, &[home, b"\x000\0"]).await?);
    }
    part(at, talk, Step("ask for a part of nothing"), home, b"0", b"\0").await?;
    for name in [b"/a\0", b"/b\0", b"/c\0"] {
        talk.order(at, Step("make"), Mkdir, &[home, name]).await?;
    }
    for (offset, names) in [(b"0", &b"a\0b\0c\0\0"[..]), (b"2", b"b\0c\0\0"), (b"4", b"c\0\0")] {
        part(at, talk, Step("ask for a part"), home, offset, names).await?;
    }
    for offset in [&b"6"[..], b"7", b"4096", b"100000"] {
        part(at, talk, Step("ask for a part beyond the end"), home, offset, b"\0").await?;
    }
    let step = Step("ask for a part of what is not there");
    step.rejected("ENOENT", talk.ask(at, step, DirectoryPart, &[home, b"/none\x000\0"]).await?)?;
    let step = Step("ask for a part without an offset");
    step.rejected("EINVAL", talk.ask(at, step, DirectoryPart, &[home, b"\0"]).await?)?;
    for name in [b"/a\0", b"/b\0", b"/c\0"] {
        talk.order(at, Step("remove"), Rm, &[home, name]).await?;
    }
    Ok(())
}

/// Asks for a part that has these names, and hands out the list's generation.
async fn part(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    step: Step,
    path: &[u8],
    offset: &[u8],
    names: &[u8],
) -> Outcome<Told> {
    let part = step.accepted(talk.ask(at, step, DirectoryPart, &[path, b"\0", offset, b"\0"]).await?)?;
    let (generation, rest) = part.split_at(part.iter().position(|byte| *byte == 0).unwrap_or(0));
    let is_number = !generation.is_empty() && generation.iter().all(u8::is_ascii_digit);
    step.holds(is_number, "a generation, and a nul", Excerpt::from(part))?;
    step.holds(rest.get(1..) == Some(names), "the names", Excerpt::from(rest))?;
    Ok(Told::of(str::from_utf8(generation).unwrap_or("")))
}

pub(super) async fn have_a_generation(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    if !ground.profile.has_parts {
        let step = Step("ask for a part, where there are none");
        return step.rejected("ENOSYS", talk.ask(at, step, DirectoryPart, &[home, b"\x000\0"]).await?);
    }
    talk.order(at, Step("make"), Mkdir, &[home, b"/a\0"]).await?;
    let first = part(at, talk, Step("ask for a part"), home, b"0", b"a\0\0").await?;
    let step = Step("ask for it again");
    step.equal(first, part(at, talk, step, home, b"2", b"\0").await?)?;
    talk.order(at, Step("make below"), Mkdir, &[home, b"/a/below\0"]).await?;
    let step = Step("ask for it after something further down");
    step.equal(first, part(at, talk, step, home, b"0", b"a\0\0").await?)?;
    talk.order(at, Step("make another"), Mkdir, &[home, b"/b\0"]).await?;
    talk.order(at, Step("remove it"), Rm, &[home, b"/b\0"]).await?;
    let step = Step("ask for it after it was another");
    let last = part(at, talk, step, home, b"0", b"a\0\0").await?;
    step.holds(first != last, "another generation", first)?;
    talk.order(at, Step("remove"), Rm, &[home, b"/a\0"]).await
}
