//! Dom0's side: the toolstack and the backends, without bytes and rings.
//!
//! These are the requests of `docs/misc/xenstore.txt`, as methods; what they say and refuse is the same as by a message.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{MessageType, XsError};

use super::{
    CONTROL, Event, Listing, Permission, Quota, Refusal, Xenstored,
    connection::{By, ConnectionId, Who},
    ring::RingPage,
    rules::TRANSACTION_OPEN,
    trace::Record,
};

/// The right to speak to the daemon as dom0: a connection by its socket.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Client(ConnectionId);

/// An open transaction of a [`Client`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tx(u32);

/// What a [`Client`] can ask for.
#[derive(Debug)]
pub struct Tools<'d> {
    daemon: &'d mut Xenstored,
    connection: ConnectionId,
}

impl Xenstored {
    /// Connects a program of dom0's.
    pub fn connect(&mut self) -> Client {
        Client(self.connect_as(Who::Tools))
    }

    /// Disconnects it: its watches and transactions are gone.
    pub fn disconnect(&mut self, Client(id): Client) {
        self.disconnect_id(id);
    }

    /// Speaks for a client of this daemon's.
    pub const fn tools(&mut self, client: &Client) -> Tools<'_> {
        Tools { daemon: self, connection: client.0 }
    }
}

/// Every method fails with what the daemon says, and the rule by which it does.
#[expect(
    clippy::missing_errors_doc,
    reason = "they fail as docs/misc/xenstore.txt says, and as all of them do"
)]
impl Tools<'_> {
    // Nodes.

    /// `READ`: a node's value.
    pub fn read(&mut self, tx: Option<Tx>, path: &str) -> Result<Vec<u8>, Refusal> {
        self.ask(MessageType::Read, tx, path, |daemon, by| daemon.read(by, path.as_bytes()))
    }

    /// `WRITE`: creates what is missing.
    pub fn write(&mut self, tx: Option<Tx>, path: &str, value: &[u8]) -> Result<(), Refusal> {
        self.ask(MessageType::Write, tx, path, |daemon, by| daemon.write(by, path.as_bytes(), value))
    }

    /// `MKDIR`
    pub fn mkdir(&mut self, tx: Option<Tx>, path: &str) -> Result<(), Refusal> {
        self.ask(MessageType::Mkdir, tx, path, |daemon, by| daemon.mkdir(by, path.as_bytes()))
    }

    /// `RM`: a node and all below it.
    pub fn rm(&mut self, tx: Option<Tx>, path: &str) -> Result<(), Refusal> {
        self.ask(MessageType::Rm, tx, path, |daemon, by| daemon.rm(by, path.as_bytes()))
    }

    /// `DIRECTORY`: the names of a node's children, in the order in which they were created.
    pub fn directory(&mut self, tx: Option<Tx>, path: &str) -> Result<Vec<String>, Refusal> {
        self.ask(MessageType::Directory, tx, path, |daemon, by| daemon.directory(by, path.as_bytes()))
    }

    /// `DIRECTORY_PART`: from this byte of the list on.
    pub fn directory_part(&mut self, tx: Option<Tx>, path: &str, offset: u32) -> Result<Listing, Refusal> {
        self.ask(MessageType::DirectoryPart, tx, path, |daemon, by| {
            daemon.directory_part(by, path.as_bytes(), offset)
        })
    }

    /// `GET_PERMS`: the first is the owner.
    pub fn permissions(&mut self, tx: Option<Tx>, path: &str) -> Result<Vec<Permission>, Refusal> {
        self.ask(MessageType::GetPerms, tx, path, |daemon, by| daemon.permissions(by, path.as_bytes()))
    }

    /// `SET_PERMS`: the first is the owner.
    pub fn set_permissions(
        &mut self,
        tx: Option<Tx>,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), Refusal> {
        self.ask(MessageType::SetPerms, tx, path, |daemon, by| {
            daemon.set_permissions(by, path.as_bytes(), permissions)
        })
    }

    // Watches.

    /// `WATCH`: the first event is there at once.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), Refusal> {
        self.set_watch(path, token, None)
    }

    /// `WATCH`, for so many levels below the path.
    pub fn watch_to_depth(&mut self, path: &str, token: &str, depth: u32) -> Result<(), Refusal> {
        self.set_watch(path, token, Some(depth))
    }

    fn set_watch(&mut self, path: &str, token: &str, depth: Option<u32>) -> Result<(), Refusal> {
        let event = self.ask(MessageType::Watch, None, path, |daemon, by| {
            daemon.watch(by, path.as_bytes(), token.as_bytes(), depth)
        })?;
        self.daemon.send_event(self.connection, &event, None);
        Ok(())
    }

    /// `UNWATCH`: events that wait already stay.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), Refusal> {
        self.ask(MessageType::Unwatch, None, path, |daemon, by| {
            daemon.unwatch(by, path.as_bytes(), token.as_bytes())
        })
    }

    /// `RESET_WATCHES`: transactions, too.
    pub fn reset_watches(&mut self) -> Result<(), Refusal> {
        self.ask(MessageType::ResetWatches, None, "", |daemon, by| {
            daemon.reset_watches(by);
            Ok(())
        })
    }

    /// Takes the next event.
    pub fn next_event(&mut self) -> Option<Event> {
        let message = self.daemon.connections.get_mut(&self.connection)?.outgoing.pop()?;
        self.daemon.gone(message.kind);
        message.as_event()
    }

    // Transactions.

    /// `TRANSACTION_START`
    pub fn start(&mut self) -> Result<Tx, Refusal> {
        self.ask(MessageType::TransactionStart, None, "", Xenstored::start_transaction).map(Tx)
    }

    /// `TRANSACTION_END` with `T`: `EAGAIN` if it was overtaken.
    pub fn commit(&mut self, tx: Tx) -> Result<(), Refusal> {
        self.ask(MessageType::TransactionEnd, Some(tx), "T", |daemon, by| daemon.end_transaction(by, true))
    }

    /// `TRANSACTION_END` with `F`: nothing has happened.
    pub fn abort(&mut self, tx: Tx) -> Result<(), Refusal> {
        self.ask(MessageType::TransactionEnd, Some(tx), "F", |daemon, by| daemon.end_transaction(by, false))
    }

    // Domains.

    /// `INTRODUCE`: connects a domain by its ring, and by this port at its end of the event channel.
    ///
    /// Of a domain that is connected already, nothing survives: its watches, transactions, requests and replies are gone and
    /// its ring is empty; only a connection that [was ended](super::Holdings::is_dead) stays so until it is released. The
    /// domain's event channel must then be signalled.
    pub fn introduce(&mut self, domid: u16, port: u32, page: &mut impl RingPage) -> Result<(), Refusal> {
        self.of(MessageType::Introduce, domid, |daemon| daemon.introduce(domid, port, page))
    }

    /// `RELEASE`: disconnects a domain, and removes its nodes.
    pub fn release(&mut self, domid: u16) -> Result<(), Refusal> {
        self.of(MessageType::Release, domid, |daemon| daemon.release(domid))
    }

    /// `RESUME`: a domain that had shut down runs again.
    pub fn resume(&mut self, domid: u16) -> Result<(), Refusal> {
        self.of(MessageType::Resume, domid, |daemon| daemon.resume(domid))
    }

    /// `SET_TARGET`: a domain may do to the nodes of another what that one may.
    pub fn set_target(&mut self, domid: u16, target: u16) -> Result<(), Refusal> {
        self.of(MessageType::SetTarget, domid, |daemon| daemon.set_target(domid, target))
    }

    /// `IS_DOMAIN_INTRODUCED`
    #[must_use]
    pub fn is_introduced(&self, domid: u16) -> bool {
        domid == CONTROL || self.daemon.connection_of(domid).is_some()
    }

    /// `GET_FEATURE`
    pub fn features(&mut self, domid: u16) -> Result<u32, Refusal> {
        self.of(MessageType::GetFeature, domid, |daemon| daemon.features_of(domid))
    }

    /// `SET_FEATURE`: what a domain is offered that is not introduced yet.
    pub fn set_features(&mut self, domid: u16, offered: u32) -> Result<(), Refusal> {
        self.of(MessageType::SetFeature, domid, |daemon| daemon.set_features(domid, offered))
    }

    /// `GET_QUOTA`: of a domain, or what new ones begin with.
    pub fn quota(&mut self, domid: Option<u16>, quota: Quota) -> Result<u32, Refusal> {
        self.ask(MessageType::GetQuota, None, quota.name(), |daemon, _| {
            Ok(daemon.quotas_mut(domid)?.get(quota))
        })
    }

    /// `SET_QUOTA`: of a domain, or what new ones begin with.
    pub fn set_quota(&mut self, domid: Option<u16>, quota: Quota, value: u32) -> Result<(), Refusal> {
        self.ask(MessageType::SetQuota, None, quota.name(), |daemon, _| {
            let quotas = daemon.quotas_mut(domid)?;
            *quotas = quotas.with(quota, value);
            Ok(())
        })
    }

    // How they are asked.

    fn of<T>(
        &mut self,
        kind: MessageType,
        domid: u16,
        request: impl FnOnce(&mut Xenstored) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.ask(kind, None, &domid.to_string(), |daemon, _| request(daemon))
    }

    fn ask<T>(
        &mut self,
        kind: MessageType,
        tx: Option<Tx>,
        subject: &str,
        request: impl FnOnce(&mut Xenstored, By) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let transaction = tx.map_or(0, |Tx(id)| id);
        let by = By { connection: self.connection, domid: None, transaction, request: None };
        let result = if transaction != 0 && self.daemon.transaction(by).is_none() {
            Err(TRANSACTION_OPEN.answers(XsError::ENOENT))
        } else {
            request(self.daemon, by)
        };
        let told = result.as_ref().map(drop).map_err(|&refusal| refusal);
        self.daemon.record(|| Record::Request {
            from: Who::Tools,
            r#type: kind as u32,
            transaction,
            subject: subject.to_owned(),
            result: told,
        });
        result
    }
}
