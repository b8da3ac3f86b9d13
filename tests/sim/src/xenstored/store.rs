//! What can be done with nodes.
//!
//! A request is done whole or not at all, but for one in a transaction: that may leave something half done, and the transaction
//! can then not be committed.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{XENSTORE_PAYLOAD_MAX, XENSTORE_SERVER_FEATURE_DOMID_ANY, XsError};

use super::{
    CONTROL, Xenstored,
    connection::By,
    path::{Path, Special},
    permission::{Access, Permission, Permissions, Rights, Whom},
    quota::Quota,
    rules::{
        NODE_ACCESS, NODE_EXISTS, OWNER_EXISTS, OWNER_STAYS, PERMISSION_COUNT, PERMISSION_SYNTAX,
        QUOTA_MEMORY, QUOTA_NODE_SIZE, QUOTA_NODES, ROOT_STAYS, Refusal, TREE_WHOLE,
    },
    tree::{Node, bottom_up},
    watch::Match,
};

/// The domain that a permission for all names, where that is offered.
pub(super) const DOMID_ANY: u16 = 0x7FF5;

/// A piece of a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The node's generation: the same for two pieces if the list is the same.
    pub generation: u64,
    /// Names, each with a nul; after the last of the list, another nul.
    pub names: Vec<u8>,
}

// Reading.

impl Xenstored {
    /// `READ`
    pub(super) fn read(&mut self, by: By, path: &[u8]) -> Result<Vec<u8>, Refusal> {
        Ok(self.readable(by, path, Special::Refused)?.value)
    }

    /// `DIRECTORY`
    pub(super) fn directory(&mut self, by: By, path: &[u8]) -> Result<Vec<String>, Refusal> {
        Ok(self.readable(by, path, Special::Refused)?.children)
    }

    /// `DIRECTORY_PART`: as many whole names as a reply has room for.
    pub(super) fn directory_part(&mut self, by: By, path: &[u8], offset: u32) -> Result<Listing, Refusal> {
        let node = self.readable(by, path, Special::Refused)?;
        let offset = offset as usize;
        let generation = node.generation;
        let room = XENSTORE_PAYLOAD_MAX as usize - generation.to_string().len() - 1;
        let list = super::message::payload(&node.children);
        // An offset from the middle of a name is the caller's own fault: the list begins there.
        let rest = list.get(offset..).unwrap_or_default();
        let mut names = Vec::new();
        for name in rest.split_inclusive(|&byte| byte == 0) {
            // The nul at the end of the list must find room, too.
            if names.len() + name.len() >= room {
                return Ok(Listing { generation, names });
            }
            names.extend_from_slice(name);
        }
        names.push(0);
        Ok(Listing { generation, names })
    }

    /// `GET_PERMS`
    pub(super) fn permissions(&mut self, by: By, path: &[u8]) -> Result<Vec<Permission>, Refusal> {
        Ok(self.readable(by, path, Special::Allowed)?.permissions.list())
    }

    fn readable(&mut self, by: By, path: &[u8], special: Special) -> Result<Node, Refusal> {
        let path = self.path(by, path, special)?;
        self.permitted(by, &path, Rights::READ)?.ok_or(NODE_EXISTS.answers(XsError::ENOENT))
    }

    /// A node that the caller may do this to; none if there is none, and the caller may know that.
    ///
    /// Who may not use a node learns nothing about it from the error: that depends on the nearest node above.
    fn permitted(&mut self, by: By, path: &Path, needed: Rights) -> Result<Option<Node>, Refusal> {
        let caller = self.connection(by).caller();
        let node = self.look(by, path)?;
        if node.as_ref().is_some_and(|node| node.permissions.rights(caller).have_all(needed)) {
            return Ok(node);
        }
        let above = self.nearest_above(by, path)?;
        if node.is_none() && above.permissions.rights(caller).have_any(needed) {
            Ok(None)
        } else {
            Err(NODE_ACCESS.answers(XsError::EACCES))
        }
    }

    fn nearest_above(&mut self, by: By, path: &Path) -> Result<Node, Refusal> {
        let mut path = path.parent();
        loop {
            if let Some(node) = self.look(by, &path)? {
                return Ok(node);
            }
            if path.is_root() {
                return Err(TREE_WHOLE.answers(XsError::EIO));
            }
            path = path.parent();
        }
    }
}

// Writing.

impl Xenstored {
    /// `WRITE`
    pub(super) fn write(&mut self, by: By, path: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let path = self.path(by, path, Special::Refused)?;
        match self.permitted(by, &path, Rights::WRITE)? {
            Some(node) => self.modify(by, &path, Node { value: value.to_vec(), ..node })?,
            None => self.create(by, &path, value)?,
        }
        self.fire(Some(by), &path, None, Match::Subtree, None);
        Ok(())
    }

    /// `MKDIR`: one that exists stays what it is, and nobody is told.
    pub(super) fn mkdir(&mut self, by: By, path: &[u8]) -> Result<(), Refusal> {
        let path = self.path(by, path, Special::Refused)?;
        if self.permitted(by, &path, Rights::WRITE)?.is_none() {
            self.create(by, &path, &[])?;
            self.fire(Some(by), &path, None, Match::Subtree, None);
        }
        Ok(())
    }

    /// `SET_PERMS`
    pub(super) fn set_permissions(
        &mut self,
        by: By,
        path: &[u8],
        permissions: &[Permission],
    ) -> Result<(), Refusal> {
        let (first, rest) = permissions.split_first().ok_or(PERMISSION_SYNTAX.answers(XsError::EINVAL))?;
        if self.quotas_of(by).is_some_and(|q| q.is_reached(Quota::Permissions, permissions.len())) {
            return Err(PERMISSION_COUNT.answers(XsError::ENOSPC));
        }
        let owner = u16::try_from(first.domid)
            .ok()
            .filter(|&owner| self.exists(owner))
            .ok_or(OWNER_EXISTS.answers(XsError::ENOENT))?;
        let mut new = Permissions::of(owner, first.access);
        for &permission in rest {
            let whom = self.whom(by, permission.domid);
            new = new.with(permission, whom);
        }

        let path = self.path(by, path, Special::Allowed)?;
        let node = self
            .permitted(by, &path, Rights::WRITE | Rights::OWN)?
            .ok_or(NODE_EXISTS.answers(XsError::ENOENT))?;
        if self.quotas_of(by).is_some() && owner != node.permissions.owner {
            return Err(OWNER_STAYS.answers(XsError::EPERM));
        }
        let before = node.permissions.clone();
        self.modify(by, &path, Node { permissions: new, ..node })?;
        self.fire(Some(by), &path, None, Match::Subtree, Some(&before));
        Ok(())
    }

    fn whom(&mut self, by: By, domid: u32) -> Whom {
        if domid == u32::from(DOMID_ANY) && self.is_offered(by, XENSTORE_SERVER_FEATURE_DOMID_ANY) {
            Whom::All
        } else if u16::try_from(domid).is_ok_and(|domid| self.exists(domid)) {
            Whom::Named
        } else {
            Whom::Nobody
        }
    }

    /// Creates a node and those that are missing above it. They have the permissions of the node below which they come, but
    /// what a guest creates is its own.
    fn create(&mut self, by: By, path: &Path, value: &[u8]) -> Result<(), Refusal> {
        let mut missing = vec![path.clone()];
        let (top, mut top_node) = loop {
            let parent = missing[missing.len() - 1].parent();
            match self.look(by, &parent)? {
                Some(node) => break (parent, node),
                None if parent.is_root() => return Err(TREE_WHOLE.answers(XsError::EIO)),
                None => missing.push(parent),
            }
        };
        // All that is wrong with it is found before anything is written.
        let mut permissions = top_node.permissions.clone();
        if let Some(quotas) = self.quotas_of(by) {
            permissions.owner = by.domid.unwrap_or(CONTROL);
            let owned = self.tree.owned_by(permissions.owner).nodes;
            if quotas.is_reached(Quota::Nodes, owned + 1) {
                return Err(QUOTA_NODES.answers(XsError::ENOSPC));
            }
        }
        top_node.children.push(missing[missing.len() - 1].name().to_owned());
        let mut written = vec![(top, top_node)];
        for (depth, path) in missing.iter().enumerate().rev() {
            let value = if depth == 0 { value.to_vec() } else { Vec::new() };
            let mut node = Node::new(permissions.clone(), value);
            node.children.extend(depth.checked_sub(1).map(|below| missing[below].name().to_owned()));
            written.push((path.clone(), node));
        }
        self.modify_all(by, written)
    }

    fn modify(&mut self, by: By, path: &Path, node: Node) -> Result<(), Refusal> {
        self.modify_all(by, vec![(path.clone(), node)])
    }

    /// Writes nodes, or none: where one is too much, a transaction fails.
    fn modify_all(&mut self, by: By, nodes: Vec<(Path, Node)>) -> Result<(), Refusal> {
        if let Err(refusal) = self.may_store(by, &nodes) {
            if let Some(transaction) = self.transaction(by) {
                transaction.has_failed = true;
            }
            return Err(refusal);
        }
        for (path, node) in nodes {
            self.store(by, &path, Some(node));
        }
        Ok(())
    }

    fn may_store(&self, by: By, nodes: &[(Path, Node)]) -> Result<(), Refusal> {
        let Some(quotas) = self.quotas_of(by) else { return Ok(()) };
        let mut memory = self.memory_of(by.connection);
        for (path, node) in nodes {
            if quotas.is_reached(Quota::NodeSize, node.size()) {
                return Err(QUOTA_NODE_SIZE.answers(XsError::ENOSPC));
            }
            if Some(node.permissions.owner) != by.domid {
                continue;
            }
            let replaced = self.tree.get(path).map_or(0, |old| path.as_str().len() + old.size());
            memory = (memory + path.as_str().len() + node.size()).saturating_sub(replaced);
        }
        if quotas.is_reached(Quota::Memory, memory) {
            return Err(QUOTA_MEMORY.answers(XsError::EIO));
        }
        Ok(())
    }

    /// Changes a node, or removes it: for all, or in the caller's transaction.
    fn store(&mut self, by: By, path: &Path, node: Option<Node>) {
        if let Some(transaction) = self.transaction(by) {
            return transaction.change(path, node);
        }
        match node {
            Some(node) => self.put(path, node),
            None => _ = self.tree.remove(path),
        }
    }

    /// Changes a node for all.
    pub(super) fn put(&mut self, path: &Path, node: Node) {
        self.generation += 1;
        self.tree.put(path, Node { generation: self.generation, ..node });
    }
}

// Removing.

impl Xenstored {
    /// `RM`
    pub(super) fn rm(&mut self, by: By, path: &[u8]) -> Result<(), Refusal> {
        let path = self.path(by, path, Special::Refused)?;
        if self.permitted(by, &path, Rights::WRITE)?.is_none() {
            let parent = self.look(by, &path.parent())?;
            return parent.map(drop).ok_or(NODE_EXISTS.answers(XsError::ENOENT));
        }
        if path.is_root() {
            return Err(ROOT_STAYS.answers(XsError::EINVAL));
        }
        // In a transaction the copies are of different times: who is listed may be gone, and who is there not listed.
        let torn = TREE_WHOLE.answers(XsError::EIO);
        let parent = path.parent();
        let mut listing = self.look(by, &parent)?.ok_or(torn)?;
        if !listing.drop_child(path.name()) {
            return Err(torn);
        }
        for (below, node) in bottom_up(&path, |path| self.look(by, path)?.ok_or(torn))? {
            // While its parent is still there, which says who may know.
            let how = if below == path { Match::Subtree } else { Match::Exact };
            self.fire(Some(by), &below, Some(&node), how, None);
            self.store(by, &below, None);
        }
        self.store(by, &parent, Some(listing));
        Ok(())
    }

    /// A domain is no more: what it owned goes, with all that is below, and it is in no permission any longer.
    ///
    /// The root and the special nodes stay, and are dom0's.
    pub(super) fn remove_all_of(&mut self, domid: u16) {
        for path in self.tree.top_down() {
            let Some(mut node) = self.tree.get(&path).cloned() else { continue };
            if node.permissions.owner != domid {
                if node.permissions.forget(domid) {
                    self.tree.put(&path, node);
                }
            } else if path.is_root() || path.is_special() {
                let permissions = Permissions::of(CONTROL, Access::None);
                self.put(&path, Node { permissions, ..node });
            } else {
                self.remove_orphan(&path);
            }
        }
        for connection in self.connections.values_mut() {
            connection.transactions.values_mut().for_each(|transaction| transaction.forget(domid));
        }
    }

    fn remove_orphan(&mut self, top: &Path) {
        let nodes = bottom_up(top, |path| self.tree.get(path).cloned().ok_or(())).unwrap_or_default();
        for (path, node) in nodes {
            let how = if path == *top { Match::Subtree } else { Match::Exact };
            self.fire(None, &path, Some(&node), how, None);
            self.tree.remove(&path);
        }
        let parent = top.parent();
        if let Some(mut listing) = self.tree.get(&parent).cloned() {
            listing.drop_child(top.name());
            self.put(&parent, listing);
        }
    }
}
