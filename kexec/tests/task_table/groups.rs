//! Executors and scopes, and the tree that shows them.

use std::iter;

use kexec::{
    platform::mock::keep,
    task_table::{Group, Label, Row, Scope, ScopeHead, ScopeState, Tree},
    yield_now,
};

use crate::support::{executor, named, never, slots, spawn};

/// A table that two executors share: each has its own tasks, under its name or its address.
#[test]
fn the_tree_of_two_executors() {
    let (first, second, slots) = (named("disk 0"), named(""), slots());
    assert_eq!(Tree::of(slots.tasks()).to_string(), "no tasks\n");
    spawn(first, slots, async || yield_now().label("backend to be Closed").await).detach();
    spawn(second, slots, never).detach();
    spawn(first, slots, never).detach();
    first.step();
    second.step();
    let rows: Vec<Row<'_>> = slots.tasks().collect();
    let [task, other, last] = rows[..] else { panic!("three slots were used: {rows:#?}") };
    let expected = format!(
        "\
executor disk 0 at {:#x}: 2 tasks
  {}
    queued, was at yield, {} \"backend to be Closed\"
    #1 in slot 0, data, 1 poll, 1 wake, spawned at {}
  {}
    queued, not yet polled
    #1 in slot 2, data, 0 polls, 0 wakes, spawned at {}
executor {:#x}: 1 task
  {}
    parked at unlabelled
    #1 in slot 1, data, 1 poll, 0 wakes, spawned at {}
",
        task.executor.address,
        task.name,
        task.place.expect("it is a leaf of the library"),
        task.site.expect("it has a site"),
        last.name,
        last.site.expect("it has a site"),
        other.executor.address,
        other.name,
        other.site.expect("it has a site"),
    );
    assert_eq!(Tree::of(slots.tasks()).to_string(), expected);
}

/// A scope's head says what it was opened with.
#[test]
fn the_head_of_a_scope() {
    let (outer, inner) = (head(), head());
    assert_eq!(outer.read(), None, "it was never open");
    outer.open("device", None);
    inner.open("requests", Some(outer));
    let [seen, inside] = [outer, inner].map(|head| head.read().expect("it was opened"));
    assert_eq!((seen.name, seen.parent, seen.state), ("device", None, ScopeState::Open));
    assert_eq!((inside.name, inside.parent), ("requests", Some(seen.address)));
    outer.set_state(ScopeState::Closing);
    assert_eq!(outer.read().map(|scope| scope.state), Some(ScopeState::Closing));
}

fn head() -> &'static ScopeHead {
    keep(ScopeHead::new())
}

/// The row of a parked task, in a scope.
fn inside(row: Row<'static>, name: &'static str, scope: Scope<'static>) -> Row<'static> {
    Row { name, scope: Some(Group { address: scope.address, name: scope.name }), ..row }
}

/// The names in a tree, with their indentation.
fn outline(tree: &impl ToString) -> Vec<String> {
    let lines = tree.to_string();
    let names = lines.lines().filter(|line| !line.contains("parked at") && !line.contains(" in slot "));
    names.map(|line| line.split(" at 0x").next().unwrap_or(line).to_owned()).collect()
}

/// Tasks are below their scopes, scopes below theirs; one without a head is shown by what its tasks say; one without tasks
/// is left out.
#[test]
fn the_tree_of_scopes() {
    let heads = [head(), head(), head(), head()];
    heads[0].open("device", None);
    heads[1].open("queue", Some(heads[0]));
    heads[2].open("request", Some(heads[1]));
    heads[3].open("idle", Some(heads[0]));
    let scopes = heads.map(|head| head.read().expect("it was opened"));
    let unknown = Scope { address: 8, parent: None, name: "gone", state: ScopeState::Unknown };

    let (executor, slots) = (executor(), slots());
    spawn(executor, slots, never).detach();
    executor.step();
    let row = slots.tasks().next().expect("a slot is used");
    let rows = [
        inside(row, "serve", scopes[2]),
        inside(row, "stray", unknown),
        Row { name: "free", ..row },
        inside(row, "watch", scopes[0]),
    ];
    let tree = Tree::of(rows.into_iter()).with(scopes.into_iter());
    let expected = [
        "executor test",
        "  free",
        "  scope device",
        "    watch",
        "    scope queue",
        "      scope request",
        "        serve",
        "  scope gone",
        "    stray",
    ];
    assert_eq!(outline(&tree), expected, "{tree}");
    assert!(tree.to_string().contains(", open: 1 task\n"), "{tree}");
}

/// Scopes that are in each other, as a damaged copy may say, do not make the tree endless.
#[test]
fn scopes_that_go_round() {
    let (executor, slots) = (executor(), slots());
    spawn(executor, slots, never).detach();
    executor.step();
    let row = slots.tasks().next().expect("a slot is used");
    let scope =
        |address, parent| Scope { address, parent: Some(parent), name: "round", state: ScopeState::Open };
    let scopes = [scope(16, 32), scope(32, 16)];
    let rows = iter::repeat_n(inside(row, "task", scopes[0]), 3);
    let tree = Tree::of(rows).with(scopes.into_iter()).to_string();
    assert!(tree.lines().count() < 1_000 && tree.contains("task"), "{tree}");
}
