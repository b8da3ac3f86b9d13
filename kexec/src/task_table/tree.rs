//! Rows as a tree: executors, their scopes, their tasks.
#![forbid(unsafe_code)]

use core::{fmt, iter};

use super::{
    row::{Group, Plain, Row},
    scope::Scope,
};

/// No scope is so deep inside of others: a chain that is longer goes round, which only a damaged copy does.
const DEPTH: usize = 32;

/// Shows tasks below their executors and scopes:
///
/// ```text
/// executor disk 0 at 0xffffa0010000: 2 tasks
///   disk::watch
///     parked at sleep, src/disk.rs:40 "next look"
///     #1 in slot 0, control, 12 polls, 11 wakes, spawned at src/disk.rs:12
///   scope requests at 0xffffa0020000, open: 1 task
///     disk::read
///       being polled
///       #70 in slot 3, data, 2 polls, 1 wake, spawned at src/disk.rs:31
/// ```
///
/// Rows of several tables can be chained. Nothing is allocated and no lock taken: a tree can be written at any level
/// at which the writer works. Of a table that lives, the rows are read anew for every group; a task that has moved
/// meanwhile may be missing, or there twice.
#[derive(Clone, Debug)]
pub struct Tree<R, S> {
    rows: R,
    scopes: S,
}

impl<'i, R: Iterator<Item = Row<'i>> + Clone> Tree<R, iter::Empty<Scope<'i>>> {
    /// Of these rows. A scope whose head is not [given](Self::with) is shown by what its tasks say of it.
    pub fn of(rows: R) -> Self {
        Self { rows, scopes: iter::empty() }
    }

    /// With the heads of scopes, which say what is in what.
    pub fn with<S: Iterator<Item = Scope<'i>> + Clone>(self, scopes: S) -> Tree<R, S> {
        Tree { rows: self.rows, scopes }
    }
}

impl<'i, R, S> Tree<R, S>
where
    R: Iterator<Item = Row<'i>> + Clone,
    S: Iterator<Item = Scope<'i>> + Clone,
{
    fn tasks(&self) -> impl Iterator<Item = Row<'i>> + Clone {
        self.rows.clone().filter(Row::is_task)
    }

    fn executor(&self, f: &mut fmt::Formatter<'_>, executor: Group<'i>) -> fmt::Result {
        let tasks = self.tasks().filter(|row| row.executor.address == executor.address);
        if executor.address == 0 {
            write!(f, "between two tasks")?;
        } else {
            f.write_str("executor ")?;
            group(f, executor)?;
        }
        many(f, tasks.clone().count())?;
        tasks.clone().filter(|row| row.scope.is_none()).try_for_each(|row| task(f, 1, &row))?;
        let outermost = tasks.clone().filter_map(|row| row.scope).map(|scope| self.outermost(scope));
        for (index, scope) in outermost.clone().enumerate() {
            if outermost.clone().take(index).all(|before| before.address != scope.address) {
                self.scope(f, 1, &tasks, scope)?;
            }
        }
        Ok(())
    }

    /// A scope with its tasks, and the scopes in it that have tasks.
    fn scope(
        &self,
        f: &mut fmt::Formatter<'_>,
        depth: usize,
        tasks: &(impl Iterator<Item = Row<'i>> + Clone),
        scope: Group<'i>,
    ) -> fmt::Result {
        let own = tasks.clone().filter(|row| row.scope.is_some_and(|of| of.address == scope.address));
        indent(f, depth)?;
        f.write_str("scope ")?;
        group(f, scope)?;
        if let Some(head) = self.head(scope.address) {
            write!(f, ", {}", head.state)?;
        }
        many(f, own.clone().count())?;
        let inside = depth.saturating_add(1);
        own.clone().try_for_each(|row| task(f, inside, &row))?;
        if inside > DEPTH {
            return Ok(());
        }
        for inner in self.scopes.clone().filter(|inner| inner.parent == Some(scope.address)) {
            let has_tasks =
                |row: Row<'i>| row.scope.is_some_and(|of| self.is_inside(of.address, inner.address));
            if tasks.clone().any(has_tasks) {
                self.scope(f, inside, tasks, Group { address: inner.address, name: inner.name })?;
            }
        }
        Ok(())
    }

    fn head(&self, address: u64) -> Option<Scope<'i>> {
        self.scopes.clone().find(|scope| scope.address == address)
    }

    /// A scope, the one that it is in, and so on: those whose heads are known.
    fn chain(&self, address: u64) -> impl Iterator<Item = Scope<'i>> {
        let above = |scope: &Scope<'i>| scope.parent.and_then(|parent| self.head(parent));
        iter::successors(self.head(address), above).take(DEPTH)
    }

    fn outermost(&self, scope: Group<'i>) -> Group<'i> {
        let last = self.chain(scope.address).last();
        last.map_or(scope, |scope| Group { address: scope.address, name: scope.name })
    }

    fn is_inside(&self, address: u64, outer: u64) -> bool {
        self.chain(address).any(|scope| scope.address == outer)
    }
}

impl<'i, R, S> fmt::Display for Tree<R, S>
where
    R: Iterator<Item = Row<'i>> + Clone,
    S: Iterator<Item = Scope<'i>> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tasks = self.tasks().enumerate().peekable();
        if tasks.peek().is_none() {
            return f.write_str("no tasks\n");
        }
        for (index, row) in tasks {
            let shown = |before: Row<'i>| before.executor.address == row.executor.address;
            if !self.tasks().take(index).any(shown) {
                self.executor(f, row.executor)?;
            }
        }
        Ok(())
    }
}

fn group(f: &mut fmt::Formatter<'_>, group: Group<'_>) -> fmt::Result {
    if !group.name.is_empty() {
        write!(f, "{} at ", Plain(group.name))?;
    }
    write!(f, "{:#x}", group.address)
}

fn many(f: &mut fmt::Formatter<'_>, tasks: usize) -> fmt::Result {
    writeln!(f, ": {tasks} task{}", if tasks == 1 { "" } else { "s" })
}

fn task(f: &mut fmt::Formatter<'_>, depth: usize, row: &Row<'_>) -> fmt::Result {
    let name = if row.name.is_empty() { "a task without a name" } else { row.name };
    indent(f, depth)?;
    writeln!(f, "{}", Plain(name))?;
    let inside = depth.saturating_add(1);
    indent(f, inside)?;
    writeln!(f, "{}", row.whereabouts())?;
    indent(f, inside)?;
    writeln!(f, "{}", row.history())
}

fn indent(f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    (0..depth).try_for_each(|_| f.write_str("  "))
}
