//! Transactions.
//!
//! There is no copy of the tree. A transaction has a copy of each node that it has touched, made at the first touch:
//!
//! 1. A node that is read, found missing, written or removed, and the nodes above it that are asked for permission, for a missing
//!    parent or for the list that a name goes into, are *touched*. Reads and writes are then of the copy.
//! 2. At the end, each node that was touched, even if only read, must have the generation that it had at the first touch, and
//!    must not exist if it did not. Else it is EAGAIN, and the transaction is gone.
//! 3. The copies that were changed become the nodes, in the order in which they were first touched; each event is sent
//!    when its node is done, one for each path that was written, removed or given permissions, however often that was.
//!
//! So two transactions that create different children of one node conflict, since both change its list.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, btree_map::Entry};

use xen_abi::io::xs_wire::XsError;

use super::{
    Xenstored,
    connection::By,
    path::Path,
    permission::Permissions,
    quota::{Quota, Quotas},
    rules::{
        QUOTA_NODES, QUOTA_TRANSACTION_NODES, QUOTA_TRANSACTIONS, Refusal, TRANSACTION_CONFLICT,
        TRANSACTION_FAILED, TRANSACTION_NOT_NESTED, TRANSACTION_OPEN,
    },
    tree::Node,
    watch::Match,
};

/// A transaction that is open.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    touched: BTreeMap<Path, Touched>,
    /// In which order.
    order: Vec<Path>,
    /// Something was done by half: it cannot be committed.
    pub(super) has_failed: bool,
    bytes: usize,
}

/// A node that a transaction has touched.
#[derive(Debug)]
struct Touched {
    /// What it was.
    before: Option<Before>,
    /// What it is for the transaction.
    now: Option<Node>,
    is_changed: bool,
    event: Option<Match>,
}

#[derive(Debug)]
struct Before {
    generation: u64,
    permissions: Permissions,
}

impl Transaction {
    /// A node as the transaction sees it, which touches it.
    fn look(
        &mut self,
        path: &Path,
        global: Option<&Node>,
        quotas: Option<Quotas>,
    ) -> Result<Option<Node>, Refusal> {
        if let Some(touched) = self.touched.get(path) {
            return Ok(touched.now.clone());
        }
        let touched = self.order.len() + 1;
        if quotas.is_some_and(|quotas| quotas.is_reached(Quota::TransactionNodes, touched)) {
            self.has_failed = true;
            return Err(QUOTA_TRANSACTION_NODES.answers(XsError::ENOSPC));
        }
        self.touch(path, global.cloned());
        Ok(global.cloned())
    }

    /// The daemon's memory that the copies need.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn touch(&mut self, path: &Path, node: Option<Node>) {
        let before = node
            .as_ref()
            .map(|node| Before { generation: node.generation, permissions: node.permissions.clone() });
        self.bytes += size(path, node.as_ref());
        self.order.push(path.clone());
        self.touched.insert(path.clone(), Touched { before, now: node, is_changed: false, event: None });
    }

    /// Changes a node that was touched.
    pub(super) fn change(&mut self, path: &Path, node: Option<Node>) {
        if let Some(touched) = self.touched.get_mut(path) {
            self.bytes += size(path, node.as_ref());
            self.bytes -= size(path, touched.now.as_ref());
            touched.now = node;
            touched.is_changed = true;
        }
    }

    /// An event for the end. That of a removed subtree stays one.
    pub(super) fn keep_event(&mut self, path: &Path, how: Match) {
        if let Some(touched) = self.touched.get_mut(path)
            && touched.event != Some(Match::Subtree)
        {
            touched.event = Some(how);
        }
    }

    /// A domain is no more. Nothing of it comes back by the copies.
    pub(super) fn forget(&mut self, domid: u16) {
        for (path, touched) in &mut self.touched {
            let Some(node) = &mut touched.now else { continue };
            let size_before = size(path, Some(node));
            node.permissions.forget(domid);
            self.bytes -= size_before - size(path, Some(node));
            self.has_failed |= touched.is_changed && node.permissions.owner == domid;
        }
    }

    /// The first node that was changed by somebody else since it was touched.
    fn conflict(&self, daemon: &Xenstored) -> Option<&Path> {
        self.order.iter().find(|path| {
            let before = self.touched[*path].before.as_ref().map(|before| before.generation);
            before != daemon.tree.get(path).map(|node| node.generation)
        })
    }

    /// How many more nodes a domain would own.
    fn growth(&self, domid: u16) -> isize {
        let is_its_own = |permissions: &Permissions| isize::from(permissions.owner == domid);
        let changed = self.touched.values().filter(|touched| touched.is_changed);
        changed
            .map(|touched| {
                let before = touched.before.as_ref().map_or(0, |before| is_its_own(&before.permissions));
                touched.now.as_ref().map_or(0, |now| is_its_own(&now.permissions)) - before
            })
            .sum()
    }
}

fn size(path: &Path, node: Option<&Node>) -> usize {
    node.map_or(0, |node| path.as_str().len() + node.size())
}

impl Xenstored {
    /// `TRANSACTION_START`
    pub(super) fn start_transaction(&mut self, by: By) -> Result<u32, Refusal> {
        if by.transaction != 0 {
            return Err(TRANSACTION_NOT_NESTED.answers(XsError::EBUSY));
        }
        let quotas = self.quotas_of(by);
        let connection = self.connection(by);
        if quotas
            .is_some_and(|quotas| quotas.is_reached(Quota::Transactions, connection.transactions.len() + 1))
        {
            return Err(QUOTA_TRANSACTIONS.answers(XsError::ENOSPC));
        }
        loop {
            // Zero is none.
            connection.last_transaction = connection.last_transaction.wrapping_add(1).max(1);
            let id = connection.last_transaction;
            if let Entry::Vacant(free) = connection.transactions.entry(id) {
                free.insert(Transaction::default());
                return Ok(id);
            }
        }
    }

    /// `TRANSACTION_END`: whatever comes of it, the transaction is gone.
    pub(super) fn end_transaction(&mut self, by: By, commit: bool) -> Result<(), Refusal> {
        let transaction = self
            .connection(by)
            .transactions
            .remove(&by.transaction)
            .ok_or(TRANSACTION_OPEN.answers(XsError::ENOENT))?;
        if commit { self.commit(by.outside(), transaction) } else { Ok(()) }
    }

    fn commit(&mut self, by: By, mut transaction: Transaction) -> Result<(), Refusal> {
        if transaction.has_failed {
            return Err(TRANSACTION_FAILED.answers(XsError::ENOMEM));
        }
        // What it creates is its own, so nobody else can own more.
        if let (Some(domid), Some(quotas)) = (by.domid, self.quotas_of(by)) {
            let growth = transaction.growth(domid);
            let nodes = self.tree.owned_by(domid).nodes.saturating_add_signed(growth);
            if growth > 0 && quotas.is_reached(Quota::Nodes, nodes) {
                return Err(QUOTA_NODES.answers(XsError::ENOSPC));
            }
        }
        if transaction.conflict(self).is_some() {
            return Err(TRANSACTION_CONFLICT.answers(XsError::EAGAIN));
        }
        for path in &transaction.order {
            let Some(touched) = transaction.touched.remove(path).filter(|touched| touched.is_changed) else {
                continue;
            };
            match touched.now {
                Some(node) => self.put(path, node),
                None => _ = self.tree.remove(path),
            }
            if let Some(how) = touched.event {
                let before = touched.before.map(|before| before.permissions);
                self.fire(Some(by), path, None, how, before.as_ref());
            }
        }
        Ok(())
    }

    /// A node as the caller sees it. In a transaction, that touches it.
    pub(super) fn look(&mut self, by: By, path: &Path) -> Result<Option<Node>, Refusal> {
        let global = self.tree.get(path);
        let quotas = self.quotas_of(by);
        let connection = self.connections.get_mut(&by.connection);
        match connection.and_then(|connection| connection.transactions.get_mut(&by.transaction)) {
            Some(transaction) => transaction.look(path, global, quotas),
            None => Ok(global.cloned()),
        }
    }

    /// The transaction that a request is made in.
    pub(super) fn transaction(&mut self, by: By) -> Option<&mut Transaction> {
        self.connection(by).transactions.get_mut(&by.transaction)
    }
}
