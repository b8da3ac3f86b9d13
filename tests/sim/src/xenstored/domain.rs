//! Domains: those that Xen has, and those that are introduced.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{SERVER_FEATURES, XsError};

use super::{
    CONTROL, Xenstored,
    connection::{By, Connection, ConnectionId, Who},
    path::Path,
    quota::Quotas,
    ring::RingPage,
    rules::{
        DOMAIN_EXISTS, DOMAIN_INTRODUCED, FEATURES_BEFORE, FEATURES_KNOWN, INTRODUCE_REAL, KNOWN_TYPES,
        Refusal,
    },
    watch::Match,
};

/// A domain that Xen has.
#[derive(Debug)]
pub(super) struct Domain {
    /// Where it is introduced.
    pub(super) connection: Option<ConnectionId>,
    /// It was told to all that it has shut down.
    is_shut_down: bool,
    /// What its ring's page says that the daemon can do.
    pub(super) offered: u32,
    pub(super) quotas: Quotas,
    /// Its end of the event channel.
    port: u32,
}

pub(super) const INTRODUCED: &str = "@introduceDomain";
pub(super) const RELEASED: &str = "@releaseDomain";

/// What Xen tells the daemon (by `VIRQ_DOM_EXC` and a question).
impl Xenstored {
    /// A domain was created. It can be named in permissions, and introduced.
    pub fn domain_created(&mut self, domid: u16) {
        let domain = self.new_domain();
        self.domains.entry(domid).or_insert(domain);
    }

    /// A domain has shut down: crashed, suspended, powered off. Told once to who watches for it, until it is
    /// [resumed](super::Tools::resume).
    pub fn domain_shut_down(&mut self, domid: u16) {
        let domain = self.domains.get_mut(&domid).filter(|domain| domain.connection.is_some());
        if domain.is_some_and(|domain| !std::mem::replace(&mut domain.is_shut_down, true)) {
            self.fire_for_domain(RELEASED, domid);
            self.fire_special(RELEASED);
        }
    }

    /// A domain is no more: its connection and its nodes go with it.
    pub fn domain_destroyed(&mut self, domid: u16) {
        if domid != CONTROL && self.disconnect_domain(domid) {
            self.domains.remove(&domid);
            self.fire_special(RELEASED);
            self.fire_for_domain(RELEASED, domid);
        } else if domid != CONTROL {
            self.domains.remove(&domid);
        }
    }

    /// The domain's end of the event channel, as introduced.
    #[must_use]
    pub fn port(&self, domid: u16) -> Option<u32> {
        self.domains.get(&domid).filter(|domain| domain.connection.is_some()).map(|domain| domain.port)
    }
}

// What dom0 asks for.

impl Xenstored {
    /// `INTRODUCE`: whether the domain's event channel must be signalled.
    ///
    /// Of a domain that is introduced already, nothing survives but that it may be dead: its ring begins anew, and it has
    /// no watch and no transaction.
    pub(super) fn introduce(
        &mut self,
        domid: u16,
        port: u32,
        page: &mut impl RingPage,
    ) -> Result<(), Refusal> {
        let unreal = INTRODUCE_REAL.answers(XsError::EINVAL);
        let domain = self.domains.get_mut(&domid).filter(|_| domid != CONTROL && port != 0).ok_or(unreal)?;
        domain.port = port;
        let offered = domain.offered;
        let (id, is_new) = match domain.connection {
            Some(id) => (id, false),
            None => (self.connect_as(Who::Domain(domid)), true),
        };
        if is_new {
            if let Some(domain) = self.domains.get_mut(&domid) {
                domain.connection = Some(id);
            }
            page.store_u32(SERVER_FEATURES, offered);
            self.fire_special(INTRODUCED);
            self.fire_for_domain(INTRODUCED, domid);
        }
        self.reset(id, page);
        Ok(())
    }

    /// `RELEASE`: as if the domain were no more, but that Xen has it still.
    pub(super) fn release(&mut self, domid: u16) -> Result<(), Refusal> {
        self.introduced(domid)?;
        self.disconnect_domain(domid);
        let domain = self.new_domain();
        self.domains.insert(domid, domain);
        self.fire_special(RELEASED);
        self.fire_for_domain(RELEASED, domid);
        Ok(())
    }

    /// `RESUME`
    pub(super) fn resume(&mut self, domid: u16) -> Result<(), Refusal> {
        self.introduced(domid)?;
        if let Some(domain) = self.domains.get_mut(&domid) {
            domain.is_shut_down = false;
        }
        Ok(())
    }

    /// `SET_TARGET`
    pub(super) fn set_target(&mut self, domid: u16, target: u16) -> Result<(), Refusal> {
        let id = self.introduced(domid)?;
        self.introduced(target)?;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.target = Some(target);
        }
        Ok(())
    }

    fn introduced(&self, domid: u16) -> Result<ConnectionId, Refusal> {
        if domid == CONTROL {
            return Err(DOMAIN_INTRODUCED.answers(XsError::EINVAL));
        }
        self.connection_of(domid).ok_or(DOMAIN_INTRODUCED.answers(XsError::ENOENT))
    }

    /// `GET_FEATURE` of the caller's own.
    pub(super) fn offered_to(&mut self, by: By) -> u32 {
        match by.domid {
            Some(domid) => self.domains.get(&domid).map_or(0, |domain| domain.offered),
            None => self.features.offered,
        }
    }

    /// `GET_FEATURE` of a domain's.
    pub(super) fn features_of(&self, domid: u16) -> Result<u32, Refusal> {
        self.has_feature_requests()?;
        let domain = self.domains.get(&domid).ok_or(DOMAIN_EXISTS.answers(XsError::ENOENT))?;
        Ok(domain.offered)
    }

    /// `SET_FEATURE`
    pub(super) fn set_features(&mut self, domid: u16, offered: u32) -> Result<(), Refusal> {
        self.has_feature_requests()?;
        let known = self.features.offered;
        let domain = self.domains.get_mut(&domid).ok_or(DOMAIN_EXISTS.answers(XsError::ENOENT))?;
        if domain.connection.is_some() || domid == CONTROL {
            return Err(FEATURES_BEFORE.answers(XsError::EBUSY));
        }
        if offered & !known != 0 {
            return Err(FEATURES_KNOWN.answers(XsError::EINVAL));
        }
        domain.offered = offered;
        Ok(())
    }

    const fn has_feature_requests(&self) -> Result<(), Refusal> {
        if self.features.feature_requests { Ok(()) } else { Err(KNOWN_TYPES.answers(XsError::ENOSYS)) }
    }

    /// The quotas of a domain's, or those that a new one begins with.
    pub(super) fn quotas_mut(&mut self, domid: Option<u16>) -> Result<&mut Quotas, Refusal> {
        if !self.features.quota_requests {
            return Err(KNOWN_TYPES.answers(XsError::ENOSYS));
        }
        match domid {
            None => Ok(&mut self.quotas),
            Some(domid) => match self.domains.get_mut(&domid) {
                Some(domain) => Ok(&mut domain.quotas),
                None => Err(DOMAIN_EXISTS.answers(XsError::ENOENT)),
            },
        }
    }
}

impl Xenstored {
    /// A domain that Xen has just created, or that is to begin as if it had.
    pub(super) const fn new_domain(&self) -> Domain {
        Domain {
            connection: None,
            is_shut_down: false,
            offered: self.features.offered,
            quotas: self.quotas,
            port: 0,
        }
    }

    pub(super) fn exists(&self, domid: u16) -> bool {
        self.domains.contains_key(&domid)
    }

    pub(super) fn connect_as(&mut self, who: Who) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.connections.insert(id, Connection::new(who));
        id
    }

    pub(super) fn disconnect_id(&mut self, id: ConnectionId) {
        self.forget_all(id);
        self.connections.remove(&id);
    }

    /// Takes all away that a domain has. Whether it was introduced.
    fn disconnect_domain(&mut self, domid: u16) -> bool {
        let connection = self.connection_of(domid);
        if let Some(id) = connection {
            self.disconnect_id(id);
        }
        self.outstanding.retain(|_, outstanding| outstanding.domid != domid);
        for connection in self.connections.values_mut() {
            connection.target = connection.target.filter(|&target| target != domid);
        }
        self.remove_all_of(domid);
        connection.is_some()
    }

    /// Those that watch without a depth.
    fn fire_special(&mut self, path: &str) {
        self.fire_for(&Path::own(path), &Path::own(path), Match::Special);
    }

    /// Those that watch with a depth, or for the one domain.
    fn fire_for_domain(&mut self, path: &str, domid: u16) {
        let reported = Path::own(&format!("{path}/{domid}"));
        self.fire_for(&Path::own(path), &reported, Match::SpecialDomain);
    }

    fn fire_for(&mut self, special: &Path, reported: &Path, how: Match) {
        let node = self.tree.get(special).cloned();
        self.fire(None, reported, node.as_ref(), how, None);
    }
}
