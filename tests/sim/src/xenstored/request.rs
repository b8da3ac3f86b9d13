//! What a request's bytes ask for.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{Header, MessageType, XsError};

use super::{
    Event, Refusal, Xenstored,
    connection::By,
    message::{self, domid, exactly, one, required_number, string_and_rest, strings},
    permission::Permission,
    rules::{KNOWN_TYPES, PAYLOAD_SYNTAX, PRIVILEGED_TYPES, TRANSACTION_END_SYNTAX, TRANSACTION_OPEN},
};

/// The reply to a request that was done.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) payload: Vec<u8>,
    /// An event that comes after it.
    pub(super) then: Option<Event>,
}

impl From<Vec<u8>> for Answer {
    fn from(payload: Vec<u8>) -> Self {
        Self { payload, then: None }
    }
}

/// Who may send a type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Senders {
    All,
    Control,
    Nobody,
}

impl Xenstored {
    /// Does what a domain asks for by a message.
    pub(super) fn answer(&mut self, by: By, header: Header, payload: &[u8]) -> Result<Answer, Refusal> {
        let unknown = KNOWN_TYPES.answers(XsError::ENOSYS);
        let kind = MessageType::try_from(header.r#type).map_err(|_| unknown)?;
        match self.senders(kind) {
            Senders::Nobody => return Err(unknown),
            Senders::Control => return Err(PRIVILEGED_TYPES.answers(XsError::EACCES)),
            Senders::All => {}
        }
        let by = if matches!(kind, MessageType::Watch | MessageType::Unwatch) { by.outside() } else { by };
        if by.transaction != 0 && self.transaction(by).is_none() {
            return Err(TRANSACTION_OPEN.answers(XsError::ENOENT));
        }
        match kind {
            MessageType::Read => Ok(self.read(by, one(payload)?)?.into()),
            MessageType::Directory => Ok(message::payload(self.directory(by, one(payload)?)?).into()),
            MessageType::DirectoryPart => {
                let [path, offset] = exactly(payload)?;
                let listing = self.directory_part(by, path, required_number(offset)?)?;
                let generation = message::payload([listing.generation.to_string()]);
                Ok([generation, listing.names].concat().into())
            }
            MessageType::GetPerms => {
                let permissions = self.permissions(by, one(payload)?)?;
                Ok(message::payload(permissions.iter().map(ToString::to_string)).into())
            }
            MessageType::Write => {
                let (path, value) = string_and_rest(payload)?;
                self.write(by, path, value).map(done)
            }
            MessageType::Mkdir => self.mkdir(by, one(payload)?).map(done),
            MessageType::Rm => self.rm(by, one(payload)?).map(done),
            MessageType::SetPerms => {
                let strings = strings(payload);
                let (path, permissions) =
                    strings.split_first().ok_or(PAYLOAD_SYNTAX.answers(XsError::EINVAL))?;
                let permissions =
                    permissions.iter().map(|text| Permission::parse(text)).collect::<Result<Vec<_>, _>>()?;
                self.set_permissions(by, path, &permissions).map(done)
            }
            MessageType::Watch => {
                let (path, token, depth) = match *strings(payload) {
                    [path, token] => (path, token, None),
                    [path, token, depth] => (path, token, Some(required_number(depth)?)),
                    _ => return Err(PAYLOAD_SYNTAX.answers(XsError::EINVAL)),
                };
                let event = self.watch(by, path, token, depth)?;
                Ok(Answer { then: Some(event), ..done(()) })
            }
            MessageType::Unwatch => {
                let [path, token] = exactly(payload)?;
                self.unwatch(by, path, token).map(done)
            }
            MessageType::ResetWatches => {
                self.reset_watches(by);
                Ok(done(()))
            }
            MessageType::TransactionStart => {
                let id = self.start_transaction(by)?;
                Ok(message::payload([id.to_string()]).into())
            }
            MessageType::TransactionEnd => {
                let commit = match one(payload) {
                    Ok(b"T") => true,
                    Ok(b"F") => false,
                    _ => return Err(TRANSACTION_END_SYNTAX.answers(XsError::EINVAL)),
                };
                self.end_transaction(by, commit).map(done)
            }
            MessageType::GetDomainPath => {
                let domid = domid(one(payload)?)?;
                Ok(message::payload([super::path::Path::home(domid)]).into())
            }
            MessageType::GetFeature => match *strings(payload) {
                [] => Ok(message::payload([self.offered_to(by).to_string()]).into()),
                _ => Err(PRIVILEGED_TYPES.answers(XsError::EACCES)),
            },
            _ => Err(unknown),
        }
    }

    fn senders(&self, kind: MessageType) -> Senders {
        match kind {
            MessageType::WatchEvent | MessageType::Error => Senders::Nobody,
            MessageType::GetFeature | MessageType::SetFeature if !self.features.feature_requests => {
                Senders::Nobody
            }
            MessageType::GetQuota | MessageType::SetQuota if !self.features.quota_requests => Senders::Nobody,
            MessageType::Control
            | MessageType::Introduce
            | MessageType::Release
            | MessageType::IsDomainIntroduced
            | MessageType::Resume
            | MessageType::SetTarget
            | MessageType::SetFeature
            | MessageType::GetQuota
            | MessageType::SetQuota => Senders::Control,
            MessageType::Directory
            | MessageType::Read
            | MessageType::GetPerms
            | MessageType::Watch
            | MessageType::Unwatch
            | MessageType::TransactionStart
            | MessageType::TransactionEnd
            | MessageType::GetDomainPath
            | MessageType::Write
            | MessageType::Mkdir
            | MessageType::Rm
            | MessageType::SetPerms
            | MessageType::ResetWatches
            | MessageType::DirectoryPart
            | MessageType::GetFeature => Senders::All,
        }
    }

    /// `RESET_WATCHES`: the transactions, too.
    pub(super) fn reset_watches(&mut self, by: By) {
        let connection = self.connection(by);
        connection.watches.clear();
        connection.transactions.clear();
    }
}

/// The reply of all that have nothing else to say.
fn done((): ()) -> Answer {
    message::payload(["OK"]).into()
}
