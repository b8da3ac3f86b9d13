//! The members of a scope: a list, the newest first, and what moves a close forward.
#![expect(
    unsafe_code,
    reason = "a member's links are in its header, and belong to whoever holds the scope's lock"
)]

use core::{ptr::NonNull, sync::atomic::Ordering::Relaxed, task::Waker};

use super::{CLOSED, CLOSING, Scope};
use crate::{
    atomics::Owned,
    home::Home,
    task::{Header, Task, state::Cancel},
};

/// A task or a scope. The lowest bit of the address tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member(NonNull<Header>);

const SCOPE: usize = 1;

const _: () = assert!(align_of::<Header>() > SCOPE && align_of::<Scope>() > SCOPE, "the bit is free");

/// The neighbours of a member.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Siblings {
    newer: Option<Member>,
    older: Option<Member>,
}

impl Siblings {
    pub(crate) const NONE: Self = Self { newer: None, older: None };
}

/// What a scope's lock protects.
#[derive(Debug)]
pub(super) struct Members {
    newest: Option<Member>,
    /// Tasks that are out of the list, and whose epilogues have not returned.
    pub(super) leaving: u32,
    /// Somebody has found that nobody is left, and closes the scope.
    over: bool,
    /// The scope that this one is a member of.
    pub(super) outer: Option<&'static Scope>,
}

impl From<Task> for Member {
    fn from(task: Task) -> Self {
        Self(task.pointer())
    }
}

impl From<&'static Scope> for Member {
    fn from(scope: &'static Scope) -> Self {
        Self(NonNull::from(scope).cast().map_addr(|address| address | SCOPE))
    }
}

/// What a member is.
enum Which {
    Task(Task),
    Scope(&'static Scope),
}

impl Member {
    fn which(self) -> Which {
        let address = self.0.addr().get();
        if address & SCOPE == 0 {
            // SAFETY: the pointer was a task's.
            return Which::Task(unsafe { Task::new(self.0) });
        }
        let scope = self.0.as_ptr().map_addr(|address| address & !SCOPE).cast_const().cast::<Scope>();
        // SAFETY: the pointer was made from a `'static` scope.
        Which::Scope(unsafe { &*scope })
    }

    /// Its links.
    fn siblings(self) -> &'static Owned<Siblings> {
        match self.which() {
            Which::Task(task) => &task.header().siblings,
            Which::Scope(scope) => &scope.siblings,
        }
    }
}

impl Members {
    pub(super) const fn new() -> Self {
        Self { newest: None, leaving: 0, over: false, outer: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// Who is to leave next, by name.
    pub(super) fn waits_for(&self) -> &'static str {
        match self.newest.map(Member::which) {
            _ if self.leaving != 0 => "an epilogue",
            Some(Which::Task(task)) => task.name().unwrap_or("a task"),
            Some(Which::Scope(inner)) => inner.name,
            None => "nobody",
        }
    }

    /// Takes a member in.
    pub(super) fn push(&mut self, member: Member) {
        // SAFETY: the links of a scope's members belong to whoever holds its lock, which has these members.
        unsafe { member.siblings().write(Siblings { newer: None, older: self.newest }) };
        if let Some(older) = self.newest {
            // SAFETY: as above.
            unsafe { older.siblings().with(|siblings| siblings.newer = Some(member)) };
        }
        self.newest = Some(member);
    }

    /// Lets a member go.
    pub(super) fn remove(&mut self, member: Member) {
        // SAFETY: the links of a scope's members belong to whoever holds its lock, which has these members.
        let Siblings { newer, older } = unsafe { member.siblings().read() };
        match newer {
            // SAFETY: as above.
            Some(newer) => unsafe { newer.siblings().with(|siblings| siblings.older = older) },
            None => self.newest = older,
        }
        if let Some(older) = older {
            // SAFETY: as above.
            unsafe { older.siblings().with(|siblings| siblings.newer = newer) };
        }
    }

    /// Notes that this scope is about to become a member of `outer`; false if it has members, or is one.
    pub(super) fn adopt(&mut self, outer: &'static Scope) -> bool {
        let free = self.is_empty() && self.leaving == 0 && self.outer.is_none();
        if free {
            self.outer = Some(outer);
        }
        free
    }
}

/// What is to be done next in a scope that is closing.
enum Next {
    /// Nothing: it is not closing, or somebody who is leaving does the next thing.
    Wait,
    /// A task was marked as cancelled, and is to be pushed.
    Push(Task),
    /// The newest member is a scope, which is held: it is to be closed first.
    Inner(&'static Scope),
    /// Nobody is left.
    Over { outer: Option<&'static Scope> },
}

impl Scope {
    /// Does the next thing of a close that has begun, if there is one to do.
    pub(super) fn advance(&'static self, home: Home) {
        self.after(home, |_members| ());
    }

    /// Changes the members, and does the next thing of a close.
    ///
    /// Both behind one lock: a member that has left does not touch the scope again, which may be gone.
    pub(super) fn after(&'static self, home: Home, change: impl FnOnce(&mut Members)) {
        let next = self.members.with(home, |members| {
            change(members);
            self.next(members)
        });
        self.follow(next, home);
    }

    /// What is to be done next. The lock is the caller's.
    fn next(&'static self, members: &mut Members) -> Next {
        if self.state.load(Relaxed) != CLOSING || members.leaving != 0 || members.over {
            return Next::Wait;
        }
        match members.newest.map(Member::which) {
            // Until it has left, the slot is this tenant's.
            Some(Which::Task(task)) => match task.state().cancel() {
                Cancel::Push => Next::Push(task),
                Cancel::Marked => Next::Wait,
            },
            // One that is closing already will come back here; so will one that is being nested.
            Some(Which::Scope(inner)) if !inner.hold() => Next::Wait,
            Some(Which::Scope(inner)) => Next::Inner(inner),
            None => {
                members.over = true;
                Next::Over { outer: members.outer }
            }
        }
    }

    /// Goes inwards to the newest task, or outwards when a scope is over, to the first task that it cancels.
    fn follow(&'static self, next: Next, home: Home) {
        let (mut scope, mut next) = (self, next);
        loop {
            match next {
                Next::Wait => return,
                // SAFETY: the mark is this call's.
                Next::Push(task) => return unsafe { task.enqueue() },
                Next::Inner(inner) => {
                    next = inner.members.with(home, |members| {
                        inner.state.store(CLOSING, Relaxed);
                        inner.show_state();
                        inner.next(members)
                    });
                    scope = inner;
                }
                Next::Over { outer } => {
                    let around = outer.map(|outer| {
                        let left = |members: &mut Members| {
                            members.remove(scope.into());
                            outer.next(members)
                        };
                        (outer, outer.members.with(home, left))
                    });
                    scope.end(home).into_iter().for_each(Waker::wake);
                    let Some(around) = around else { return };
                    (scope, next) = around;
                }
            }
        }
    }

    /// (4) The scope is closed, and a member no more. Returns who waits for that.
    ///
    /// It may be gone as soon as the lock is free: whoever waits takes the lock before it believes the state.
    fn end(&'static self, home: Home) -> Option<Waker> {
        self.members.with(home, |members| {
            members.over = false;
            members.outer = None;
            self.state.store(CLOSED, Relaxed);
            self.show_state();
            self.closer.take()
        })
    }
}
