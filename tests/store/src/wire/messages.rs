//! Requests and replies.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::{
    Header,
    MessageType::{
        Control, Directory, Error, GetDomainPath, GetFeature, GetPerms, GetQuota, Introduce,
        IsDomainIntroduced, Mkdir, Read, Release, ResetWatches, Resume, Rm, SetFeature, SetPerms, SetQuota,
        SetTarget, Unwatch, Watch, WatchEvent, Write,
    },
    XENSTORE_PAYLOAD_MAX, XS_INVALID,
};
use xenbus::store::Excerpt;

use super::{Wire, talk::Talk};
use crate::{
    difference::{Outcome, Step, Told},
    ground::{Ground, fill},
};

pub(super) async fn are_answered_by_number(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let tx = talk.start(at, Step("start a transaction")).await?;
    for tx_id in [0, tx] {
        for req_id in [0, 1, 0x8000_0000, u32::MAX, 1] {
            let request = Header { r#type: Read as u32, req_id, tx_id, len: 0 };

            let step = Step("read");
            talk.send(at, step, request, &[home, b"\0"]).await?;
            let reply = talk.reply(at, step).await?;
            step.equal(request, reply.header)?;

            let step = Step("read what is not there");
            talk.send(at, step, request, &[home, b"/none\0"]).await?;
            let reply = talk.reply(at, step).await?;
            let len = u32::try_from(b"ENOENT\0".len()).unwrap_or(0);
            step.equal(Header { r#type: Error as u32, len, ..request }, reply.header)?;
        }
    }
    talk.end(at, Step("end the transaction"), tx, b"F\0").await
}

pub(super) async fn without_an_answer(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let own = Told::of(format_args!("n{}", ground.domain));
    talk.order(at, Step("make"), Mkdir, &[home, b"/node\0"]).await?;
    talk.order(at, Step("make what is there"), Mkdir, &[home, b"/node\0"]).await?;
    talk.order(at, Step("write"), Write, &[home, b"/node\0value"]).await?;
    talk.order(at, Step("set permissions"), SetPerms, &[home, b"/node\0", own.as_str().as_bytes(), b"\0"])
        .await?;
    talk.order(at, Step("remove"), Rm, &[home, b"/node\0"]).await?;
    talk.order(at, Step("remove what is not there"), Rm, &[home, b"/node\0"]).await?;
    talk.order(at, Step("watch"), Watch, &[home, b"\0token\0"]).await?;
    talk.order(at, Step("watch no longer"), Unwatch, &[home, b"\0token\0"]).await?;
    talk.order(at, Step("reset watches"), ResetWatches, &[b"\0"]).await?;
    for end in [b"T\0", b"F\0"] {
        let step = Step("end a transaction");
        let tx = talk.start(at, step).await?;
        talk.end(at, step, tx, end).await?;
    }
    Ok(())
}

pub(super) async fn with_an_answer(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let one = Told::of(format_args!("n{}\0", ground.domain));
    let two = Told::of(format_args!("n{}\0r0\0", ground.domain));

    let step = Step("list nothing");
    step.answered(b"", talk.ask(at, step, Directory, &[home, b"\0"]).await?)?;
    talk.order(at, Step("write"), Write, &[home, b"/a\0a value\0"]).await?;
    let step = Step("read");
    step.answered(b"a value\0", talk.ask(at, step, Read, &[home, b"/a\0"]).await?)?;
    let step = Step("read no value");
    step.answered(b"", talk.ask(at, step, Read, &[home, b"\0"]).await?)?;
    let step = Step("list one");
    step.answered(b"a\0", talk.ask(at, step, Directory, &[home, b"\0"]).await?)?;
    talk.order(at, Step("make"), Mkdir, &[home, b"/bc\0"]).await?;
    let step = Step("list two");
    let listed = step.accepted(talk.ask(at, step, Directory, &[home, b"\0"]).await?)?;
    let is_right = listed == b"a\0bc\0" || listed == b"bc\0a\0";
    step.holds(is_right, "two names, each with a nul", Excerpt::from(listed))?;

    let step = Step("ask for a permission");
    step.answered(one.as_str().as_bytes(), talk.ask(at, step, GetPerms, &[home, b"/a\0"]).await?)?;
    talk.order(at, Step("set permissions"), SetPerms, &[home, b"/a\0", two.as_str().as_bytes()]).await?;
    let step = Step("ask for permissions");
    step.answered(two.as_str().as_bytes(), talk.ask(at, step, GetPerms, &[home, b"/a\0"]).await?)?;
    talk.order(at, Step("remove"), Rm, &[home, b"/a\0"]).await?;
    talk.order(at, Step("remove"), Rm, &[home, b"/bc\0"]).await
}

pub(super) async fn of_no_type(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    // 20 was RESTRICT once.
    for kind in [20, 1000, XS_INVALID, 0x8000_0000, u32::MAX, WatchEvent as u32, Error as u32] {
        for payload in [&b""[..], b"\0", b"EINVAL\0"] {
            let step = Step("send what has no type");
            step.rejected("ENOSYS", talk.ask(at, step, kind, &[payload]).await?)?;
        }
    }
    let step = Step("read after that");
    step.answered(b"", talk.ask(at, step, Read, &[ground.home.as_bytes(), b"\0"]).await?)
}

pub(super) async fn for_the_control_domain(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let own = Told::of(format_args!("{}\0", ground.domain));
    let own = own.as_str().as_bytes();
    for (kind, payload) in [
        (Introduce, &[own, b"1\x001\0"][..]),
        (Release, &[own]),
        (Resume, &[own]),
        (IsDomainIntroduced, &[own]),
        (SetTarget, &[own, own]),
    ] {
        let step = Step("ask for what is the control domain's");
        step.rejected("EACCES", talk.ask(at, step, kind, payload).await?)?;
    }
    let step = Step("control the daemon");
    step.rejected_if(ground.profile.control, talk.ask(at, step, Control, &[b"help\0"]).await?)
}

pub(super) async fn of_optional_types(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let refusal = |is_known| if is_known { "EACCES" } else { "ENOSYS" };
    let features = refusal(ground.profile.has_features);
    let step = Step("ask for the features of a domain");
    step.rejected(features, talk.ask(at, step, GetFeature, &[b"0\0"]).await?)?;
    let step = Step("set features");
    step.rejected(features, talk.ask(at, step, SetFeature, &[b"0\0", b"0\0"]).await?)?;
    let step = Step("ask for one's own features");
    let own = talk.ask(at, step, GetFeature, &[b""]).await?;
    if ground.profile.has_features {
        let number = step.accepted(own)?.strip_suffix(&[0]).unwrap_or(b"");
        let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
        step.holds(is_number, "a decimal number", Excerpt::from(number))?;
    } else {
        step.rejected("ENOSYS", own)?;
    }
    let quotas = refusal(ground.profile.has_quotas);
    let step = Step("ask for quotas");
    step.rejected(quotas, talk.ask(at, step, GetQuota, &[b""]).await?)?;
    let step = Step("set a quota");
    step.rejected(quotas, talk.ask(at, step, SetQuota, &[b"nodes\0", b"0\0"]).await?)
}

pub(super) async fn that_are_malformed(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    for kind in [Read, Directory, GetPerms, Mkdir, Rm] {
        let step = Step("ask for a path that does not end, or too often");
        for end in [&b"/a"[..], b"/a\0b", b"/a\0b\0", b"/a\0\0"] {
            step.rejected_anyhow(ground.profile.no_path, talk.ask(at, step, kind, &[home, end]).await?)?;
        }
        step.rejected_anyhow(ground.profile.no_path, talk.ask(at, step, kind, &[b""]).await?)?;
    }
    for (kind, end) in [
        (Write, &b"/a"[..]),
        (Watch, b""),
        (Watch, b"\0"),
        (Watch, b"\0token"),
        (Watch, b"\0token\x001\x002\0"),
        (Unwatch, b"\0"),
        (Unwatch, b"\0token\x001\0"),
        (SetPerms, b"\0"),
        (SetPerms, b"\0x0\0"),
    ] {
        let step = Step("ask for something with a string too few or too many");
        step.rejected("EINVAL", talk.ask(at, step, kind, &[home, end]).await?)?;
    }
    for payload in [&b""[..], b"0", b"0\x000\0"] {
        let step = Step("ask for the path of no domain");
        step.rejected("EINVAL", talk.ask(at, step, GetDomainPath, &[payload]).await?)?;
    }
    let step = Step("list what has come of that");
    step.answered(b"", talk.ask(at, step, Directory, &[home, b"\0"]).await?)
}

pub(super) async fn of_full_length(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let longest = XENSTORE_PAYLOAD_MAX as usize;

    let path = &mut ground.room[..longest];
    path.fill(b'x');
    path[longest - 1] = 0;
    for kind in [Read, Mkdir] {
        let step = Step("ask for the longest payload as a path");
        step.rejected("EINVAL", talk.ask(at, step, kind, &[path]).await?)?;
    }
    let length = longest - home.len() - b"/a\0".len();
    let value = &mut ground.room[..length];
    fill(value, 7);
    let step = Step("write the longest payload");
    let written = talk.ask(at, step, Write, &[home, b"/a\0", value]).await?;
    if let Some(size) = ground.profile.node {
        step.rejected(size.refusal, written)?;
    } else {
        step.answered(b"OK\0", written)?;
        let step = Step("read the longest payload");
        step.answered(value, talk.ask(at, step, Read, &[home, b"/a\0"]).await?)?;
    }
    talk.order(at, Step("remove"), Rm, &[home, b"/a\0"]).await
}

pub(super) async fn that_ask_for_a_path(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let own = ground.domain;
    for (domain, path) in [
        (Told::of(format_args!("{own}\0")), Told::of(format_args!("/local/domain/{own}\0"))),
        (Told::of("0\0"), Told::of("/local/domain/0\0")),
        (Told::of("32000\0"), Told::of("/local/domain/32000\0")),
        // "with <domid> normalised"
        (Told::of("007\0"), Told::of("/local/domain/7\0")),
    ] {
        let step = Step("ask for the path of a domain");
        let came = talk.ask(at, step, GetDomainPath, &[domain.as_str().as_bytes()]).await?;
        step.answered(path.as_str().as_bytes(), came)?;
    }
    Ok(())
}
