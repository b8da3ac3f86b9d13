//! The nodes that everybody sees, and whose they are.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{path::Path, permission::Permissions};

/// A value, and the names below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The change that made it what it is: no two have the same number.
    pub(super) generation: u64,
    pub(super) permissions: Permissions,
    pub(super) value: Vec<u8>,
    /// In the order in which they were created.
    pub(super) children: Vec<String>,
}

impl Node {
    pub(super) const fn new(permissions: Permissions, value: Vec<u8>) -> Self {
        Self { generation: 0, permissions, value, children: Vec::new() }
    }

    /// What the daemon needs for it: `calc_node_acc_size` in tools/xenstored/core.c.
    pub(super) fn size(&self) -> usize {
        16 + 8 * self.permissions.count() + self.value.len() + self.listing_size()
    }

    /// The bytes of its children's names, each with a nul.
    pub(super) fn listing_size(&self) -> usize {
        self.children.iter().map(|name| name.len() + 1).sum()
    }

    /// A child is no more. Whether there was one of that name.
    pub(super) fn drop_child(&mut self, name: &str) -> bool {
        let before = self.children.len();
        self.children.retain(|child| child != name);
        self.children.len() != before
    }
}

/// What a domain owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
}

/// All nodes, with the books of who owns how much.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<Path, Node>,
    owned: BTreeMap<u16, Owned>,
}

impl Tree {
    pub(super) fn get(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub(super) fn put(&mut self, path: &Path, node: Node) {
        self.remove(path);
        let owned = self.owned.entry(node.permissions.owner).or_default();
        owned.nodes += 1;
        owned.bytes += path.as_str().len() + node.size();
        self.nodes.insert(path.clone(), node);
    }

    pub(super) fn remove(&mut self, path: &Path) -> Option<Node> {
        let node = self.nodes.remove(path)?;
        let domid = node.permissions.owner;
        let owned = self.owned.get_mut(&domid)?;
        owned.nodes -= 1;
        owned.bytes -= path.as_str().len() + node.size();
        if owned.nodes == 0 {
            self.owned.remove(&domid);
        }
        Some(node)
    }

    pub(super) fn owned_by(&self, domid: u16) -> Owned {
        self.owned.get(&domid).copied().unwrap_or_default()
    }

    /// All that is owned, by owner.
    pub(super) const fn owned(&self) -> &BTreeMap<u16, Owned> {
        &self.owned
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter()
    }

    /// All paths from the root down, then the special ones: the order in which the daemon looks for what a dead domain has left.
    pub(super) fn top_down(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        let mut ahead: Vec<Path> = self.nodes.keys().filter(|path| path.is_special()).cloned().collect();
        ahead.push(Path::root());
        while let Some(path) = ahead.pop() {
            if let Some(node) = self.get(&path) {
                ahead.extend(node.children.iter().rev().map(|name| path.child(name)));
                paths.push(path);
            }
        }
        paths
    }
}

/// A node and all that is below it, first child first, and parents after their children: the order of a removal.
pub(super) fn bottom_up<E>(
    top: &Path,
    mut look: impl FnMut(&Path) -> Result<Node, E>,
) -> Result<Vec<(Path, Node)>, E> {
    let mut nodes = Vec::new();
    let mut ahead = vec![top.clone()];
    // Top down and last child first, and then turned round.
    while let Some(path) = ahead.pop() {
        let node = look(&path)?;
        ahead.extend(node.children.iter().map(|name| path.child(name)));
        nodes.push((path, node));
    }
    nodes.reverse();
    Ok(nodes)
}
