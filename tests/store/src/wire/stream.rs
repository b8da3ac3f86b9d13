//! How messages follow each other.
#![forbid(unsafe_code)]

use core::time::Duration;

use kexec::{irql::Dispatch, time::sleep};
use xen_abi::io::xs_wire::{
    Header,
    MessageType::{Read, Rm, Unwatch, Watch, Write},
};
use xenbus::store::Excerpt;
use zerocopy::IntoBytes;

use super::{
    Wire,
    talk::{Event, ID_STEP, Talk},
};
use crate::{
    difference::{Outcome, Step},
    ground::{Ground, fill},
};

/// Requests at a time. A daemon may stop listening to a domain that has twenty outstanding.
const MANY: usize = 12;

/// Bytes of a value: with its header more than a ring has.
const LONG: usize = 1024;

pub(super) async fn in_pieces(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let mut request = [0; 256];
    for most in [1, 7, 15, 16, 17] {
        let path = ground.home.bytes().chain(*b"/node\0in pieces");
        let len = u32::try_from(path.clone().count()).unwrap_or(0);
        let header = Header { r#type: Write as u32, req_id: talk.next_id(), tx_id: 0, len };
        let all = header.as_bytes().iter().copied().chain(path);
        let length = all.clone().count();
        for (byte, value) in request.iter_mut().zip(all) {
            *byte = value;
        }
        let step = Step("write in pieces");
        for piece in request[..length].chunks(most) {
            talk.send_bytes(at, step, piece).await?;
            // It is taken, and waits for its rest.
            sleep(Duration::from_millis(1)).await;
        }
        let reply = talk.reply(at, step).await?;
        step.equal(header.req_id, reply.header.req_id)?;
        step.answered(b"OK\0", reply)?;
        let home = ground.home.as_bytes();
        let step = Step("read what was written in pieces");
        step.answered(b"in pieces", talk.ask(at, step, Read, &[home, b"/node\0"]).await?)?;
        talk.order(at, Step("remove"), Rm, &[home, b"/node\0"]).await?;
    }
    Ok(())
}

/// The names of as many nodes.
fn node(number: usize) -> [u8; 3] {
    [b'/', b'a' + u8::try_from(number).unwrap_or(0), 0]
}

/// Reads as many nodes without waiting in between; their values begin with their names, and have this length.
async fn read_all(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    step: Step,
    home: &[u8],
    length: usize,
) -> Outcome {
    let mut ids = [None; MANY];
    for (number, id) in ids.iter_mut().enumerate() {
        let header = Header { r#type: Read as u32, req_id: talk.next_id(), tx_id: 0, len: 0 };
        talk.send(at, step, header, &[home, &node(number)]).await?;
        *id = Some(header.req_id);
    }
    // In whatever order they come.
    for _ in 0..MANY {
        let reply = talk.reply(at, step).await?;
        let number = ids.iter().position(|id| *id == Some(reply.header.req_id));
        let Some(number) = number else {
            return Err(step.differs("a reply to one of many", format_args!("{:?}", reply.header)));
        };
        ids[number] = None;
        let value = step.accepted(reply)?;
        let is_its = value.starts_with(&node(number)) && value.len() == length;
        step.holds(is_its, "its own value", Excerpt::from(value))?;
    }
    Ok(())
}

pub(super) async fn without_waiting(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let step = Step("write many without waiting");
    let mut first = 0;
    for number in 0..MANY {
        let header = Header { r#type: Write as u32, req_id: talk.next_id(), tx_id: 0, len: 0 };
        first = if number == 0 { header.req_id } else { first };
        talk.send(at, step, header, &[home, &node(number), &node(number)]).await?;
    }
    let mut ids = [false; MANY];
    for _ in 0..MANY {
        let reply = talk.reply(at, step).await?;
        let number = (reply.header.req_id.wrapping_sub(first) / ID_STEP) as usize;
        step.holds(ids.get(number) == Some(&false), "one reply to each", format_args!("{:?}", reply.header))?;
        step.answered(b"OK\0", reply)?;
        ids[number] = true;
    }
    read_all(at, talk, Step("read many without waiting"), home, 3).await?;
    for number in 0..MANY {
        talk.order(at, Step("remove"), Rm, &[home, &node(number)]).await?;
    }
    Ok(())
}

pub(super) async fn without_taking(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    let value = &mut ground.room[..LONG - 3];
    fill(value, 1);
    for number in 0..MANY {
        talk.order(at, Step("write a long value"), Write, &[home, &node(number), &node(number), value])
            .await?;
    }
    read_all(at, talk, Step("read more than the ring has room for"), home, LONG).await?;
    for number in 0..MANY {
        talk.order(at, Step("remove"), Rm, &[home, &node(number)]).await?;
    }
    Ok(())
}

pub(super) async fn of_replies_and_events(
    at: &Dispatch,
    talk: &mut Talk<'_, impl Wire>,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.home.as_bytes();
    talk.order(at, Step("watch"), Watch, &[home, b"\0token\0"]).await?;
    let step = Step("write many without waiting");
    let mut events = [Event::new(ground.home, "token"); MANY + 1];
    for (number, event) in (0..MANY).zip(&mut events) {
        let header = Header { r#type: Write as u32, req_id: talk.next_id(), tx_id: 0, len: 0 };
        talk.send(at, step, header, &[home, &node(number), &node(number)]).await?;
        let name = node(number);
        let name = str::from_utf8(&name[..2]).unwrap_or("");
        *event = Event::new(format_args!("{}{name}", ground.home), "token");
    }
    for _ in 0..MANY {
        step.answered(b"OK\0", talk.reply(at, step).await?)?;
    }
    read_all(at, talk, Step("read between events"), home, 3).await?;
    talk.expect_events(at, Step("look for an event of each"), &events).await?;
    talk.order(at, Step("watch no longer"), Unwatch, &[home, b"\0token\0"]).await?;
    for number in 0..MANY {
        talk.order(at, Step("remove"), Rm, &[home, &node(number)]).await?;
    }
    Ok(())
}
