//! Paths that a client would not let through.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::{
    MessageType::{Directory, GetPerms, Mkdir, Read, Rm, SetPerms, Watch, Write},
    XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX,
};

use super::{Wire, talk::Talk};
use crate::{
    difference::{Outcome, Step, Told},
    ground::{Absolute, Ground},
};

/// Names of a hundred bytes: a list has room for one.
fn lay(path: &mut [u8]) {
    for (index, byte) in path.iter_mut().enumerate() {
        *byte = if index % 101 == 0 { b'/' } else { b'x' };
    }
}

pub(super) async fn are_not_too_long(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let absolute: Absolute = ground.absolute(Step("put the path together"))?;
    let (most, path) = (ground.profile.path, &mut ground.room[..4000]);
    lay(path);
    let below = most - home.len();

    let step = Step("make a node of the longest path");
    talk.order(at, step, Mkdir, &[home, &path[..below], b"\0"]).await?;
    let step = Step("read it by the relative path");
    step.answered(b"", talk.ask(at, step, Read, &[home, &path[..below], b"\0"]).await?)?;
    let step = Step("read it by the absolute path");
    step.answered(b"", talk.ask(at, step, Read, &[absolute.as_bytes(), &path[..below], b"\0"]).await?)?;
    for longer in [below + 1, XENSTORE_REL_PATH_MAX + 1, XENSTORE_ABS_PATH_MAX - home.len(), 3999] {
        for above in [home, absolute.as_bytes()] {
            let step = Step("ask for a path that is too long");
            for kind in [Read, Mkdir] {
                step.rejected("EINVAL", talk.ask(at, step, kind, &[above, &path[..longer], b"\0"]).await?)?;
            }
        }
    }
    for longer in [XENSTORE_ABS_PATH_MAX + 1, 3999] {
        let step = Step("ask for a path elsewhere that is too long");
        step.rejected("EINVAL", talk.ask(at, step, Read, &[&path[..longer], b"\0"]).await?)?;
    }
    let step = Step("ask for a path elsewhere that is not too long");
    step.rejected(ground.profile.read_hidden, talk.ask(at, step, Read, &[&path[..most], b"\0"]).await?)?;

    let step = Step("remove what was made, by its top");
    talk.order(at, step, Rm, &[home, &path[..101], b"\0"]).await
}

pub(super) async fn are_not_empty(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    for kind in [Read, Directory, GetPerms, Write, Mkdir, Rm] {
        let step = Step("ask for no path");
        step.rejected("EINVAL", talk.ask(at, step, kind, &[b"\0"]).await?)?;
    }
    let own = Told::of(format_args!("\0n{}\0", ground.domain));
    let step = Step("set permissions of no path");
    step.rejected("EINVAL", talk.ask(at, step, SetPerms, &[own.as_str().as_bytes()]).await?)?;
    let step = Step("watch no path");
    step.rejected("EINVAL", talk.ask(at, step, Watch, &[b"\0token\0"]).await?)
}
