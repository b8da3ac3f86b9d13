//! Mutants that are more than a weaker ordering: a step left out, a step moved, a bit not tested.
//!
//! # Adding one
//!
//! Add an entry to [`STRUCTURAL`]. Both texts are *expressions* of the same type, for the injected code is
//!
//! ```text
//! (if mutant is on { replacement } else { original })
//! ```
//!
//! A block is an expression too, so that several statements can be replaced by wrapping them in the
//! source in a block, or by taking the one call that matters. `original` is looked for token by token:
//! how the source breaks its lines and what its comments say makes no difference. It must be found
//! exactly once in its file; give more of the surrounding expression if it is not. An entry that no
//! longer applies fails the command, so that a change of the source cannot silently retire a mutant.
//!
//! Then run `cargo xtask mutants NAME`. If it survives, either a model is missing or the step is not needed.

/// A mutant written by hand.
#[derive(Clone, Copy, Debug)]
pub struct Structural {
    /// Its name in the output, such as `wake-elided`: letters, digits and hyphens.
    pub name: &'static str,
    /// The file, from the top of the repository.
    pub file: &'static str,
    /// An expression in that file.
    pub original: &'static str,
    /// What stands there when the mutant is on.
    pub replacement: &'static str,
}

/// The mutants.
pub const STRUCTURAL: &[Structural] = &[
    // Two write to one place of the ring.
    Structural {
        name: "ring-has-two-writers",
        file: "kexec/src/trace/ring/places.rs",
        original: "seen % 2 == 1 || seen > writing(number)",
        replacement: "seen > writing(number)",
    },
    // A reader of the ring does not look whether it was overtaken.
    Structural {
        name: "ring-is-read-without-a-second-look",
        file: "kexec/src/trace/ring/places.rs",
        original: "(self.state.load(Relaxed) == done(number)).then_some(words)",
        replacement: "Some(words)",
    },
    // A redundant wake that only looks: what was written before it may be lost.
    Structural {
        name: "wake-elided",
        file: "kexec/src/task/waker.rs",
        original: "self.state().wake()",
        replacement: "{ let seen = self.state().load(); if seen.is_queued() { seen } else { self.state().wake() } }",
    },
    // `QUEUED` is cleared after the poll: a wake during the poll is lost.
    Structural {
        name: "begun-after-the-poll",
        file: "kexec/src/executor.rs",
        original: "task.state().begin()",
        replacement: "{ let found = task.state().load(); if found.is_live() { unsafe { task.turn(found.is_cancelled(), consumer) }; task.state().begin(); continue; } task.state().begin() }",
    },
    // Parking over what was pushed meanwhile.
    Structural {
        name: "park-without-looking",
        file: "kexec/src/executor/queue.rs",
        original: "self.0.compare_exchange(nobody(ACTIVE), nobody(0), Release, Relaxed).is_ok()",
        replacement: "{ self.0.store(nobody(0), Release); true }",
    },
    // Shutting over what was pushed meanwhile: its `QUEUED` stays set for ever.
    Structural {
        name: "shut-without-looking",
        file: "kexec/src/executor/queue.rs",
        original: "self.0.compare_exchange(nobody(ACTIVE), nobody(CLOSED), Release, Relaxed).is_ok()",
        replacement: "{ self.0.store(nobody(CLOSED), Release); true }",
    },
    // The push that finds the executor parked does not ring.
    Structural {
        name: "ring-when-active",
        file: "kexec/src/executor/queue.rs",
        original: "head.is_null()",
        replacement: "head.addr() == ACTIVE",
    },
    // A doorbell that finds a consumer becomes one, too.
    Structural {
        name: "second-consumer",
        file: "kexec/src/executor/queue.rs",
        original: "flags(head) & ACTIVE != 0",
        replacement: "false",
    },
    // A consumer that seems to be there is believed, on an old reading.
    Structural {
        name: "claim-looks-once",
        file: "kexec/src/executor/queue.rs",
        original: "flags(head) & ACTIVE != 0",
        replacement: "{ if flags(head) & ACTIVE != 0 { return None; } false }",
    },
    // Whoever finds a consumer, on behalf of an alarm perhaps, goes away without a trace.
    Structural {
        name: "refuse-in-silence",
        file: "kexec/src/executor/queue.rs",
        original: "address | REFUSED",
        replacement: "address",
    },
    // A doorbell leaves its trace on an executor that is closed.
    Structural {
        name: "refuse-on-closed",
        file: "kexec/src/executor/queue.rs",
        original: "flags(head) == CLOSED",
        replacement: "false",
    },
    // What was armed is believed to be armed still.
    Structural {
        name: "alarm-goes-off-once",
        file: "kexec/src/executor.rs",
        original: "timers.is_armed_in_time() && self.platform.is_armed()",
        replacement: "timers.is_armed_in_time()",
    },
    // A stale wake is queued on a closed executor.
    Structural {
        name: "push-on-closed",
        file: "kexec/src/executor/queue.rs",
        original: "head.addr() == CLOSED",
        replacement: "false",
    },
    // A run that is out of budget rings and keeps its role.
    Structural {
        name: "hand-back-nothing",
        file: "kexec/src/executor/queue.rs",
        original: "head.map_addr(|address| address & !FLAGS | LEFT)",
        replacement: "head",
    },
    // A stale abort kills the slot's next tenant.
    Structural {
        name: "abort-any-generation",
        file: "kexec/src/task/state.rs",
        original: "seen / GENERATION != generation",
        replacement: "false",
    },
    // A waker that comes after the end waits for ever.
    Structural {
        name: "too-late-unnoticed",
        file: "kexec/src/task/handle.rs",
        original: "self.state().wait().is_done()",
        replacement: "{ self.state().wait(); false }",
    },
    // A waker cell that the task's end has taken is written.
    Structural {
        name: "unwait-unnoticed",
        file: "kexec/src/task/handle.rs",
        original: "state.is_waiting() && self.state().unwait().is_done()",
        replacement: "state.is_waiting() && { self.state().unwait(); false }",
    },
    // The executor gives a slot back that the handle still has.
    Structural {
        name: "handle-ignored",
        file: "kexec/src/task/body.rs",
        original: "before.has_handle()",
        replacement: "false",
    },
    // An output that nobody took is dropped by the handle and by the executor.
    Structural {
        name: "output-dropped-twice",
        file: "kexec/src/task/handle.rs",
        original: "!before.is_live() && before.has_value()",
        replacement: "before.has_value()",
    },
    // A closing executor takes new tasks.
    Structural {
        name: "let-in-while-closing",
        file: "kexec/src/executor/live.rs",
        original: "seen & CLOSING == 0",
        replacement: "true",
    },
    // A task that was let in just before the close begins, and nobody cancels it.
    Structural {
        name: "begin-while-closing",
        file: "kexec/src/task/body.rs",
        original: "unsafe { core.as_ref() }.live.is_closing()",
        replacement: "false",
    },
    // The handle that was the last to let go tells nobody.
    Structural {
        name: "last-handle-silent",
        file: "kexec/src/task/handle.rs",
        original: "unsafe { core.as_ref() }.live.leave()",
        replacement: "{ unsafe { core.as_ref() }.live.leave(); false }",
    },
    // The close ends, and who waits for it is not told.
    Structural {
        name: "closer-not-woken",
        file: "kexec/src/executor.rs",
        original: "kept.or_else(|| self.core.end_janitor())",
        replacement: "{ self.core.end_janitor(); None::<Waker> }",
    },
    // A control lane that is never empty starves the data lane.
    Structural {
        name: "control-never-yields",
        file: "kexec/src/executor/lanes.rs",
        original: "self.streak < CONTROL_STREAK",
        replacement: "true",
    },
    // The data lane is ahead of the control lane.
    Structural {
        name: "data-first",
        file: "kexec/src/executor/lanes.rs",
        original: "!self.control.first.is_end()",
        replacement: "!self.control.first.is_end() && self.data.first.is_end()",
    },
    // A slot that a stale wake has queued is pushed again.
    Structural {
        name: "pushed-twice",
        file: "kexec/src/task/store.rs",
        original: "(before.is_queued(), tenant)",
        replacement: "(false, tenant)",
    },
    // A slot that is queued on another executor is taken over.
    Structural {
        name: "wrong-executor",
        file: "kexec/src/task/store.rs",
        original: "unsafe { task.is_of(core) }",
        replacement: "true",
    },
    // The free list takes an old top for the present one.
    Structural {
        name: "reused-top",
        file: "kexec/src/task/store.rs",
        original: "(word & !Self::INDEX).wrapping_add(Self::WANTED << 1) | u64::from(top)",
        replacement: "word & !Self::INDEX | u64::from(top)",
    },
    // A task whose slot a stale wake had queued could not be marked, and begins in a scope that is closing.
    Structural {
        name: "begins-in-a-closing-scope",
        file: "kexec/src/task/body.rs",
        original: "scope.is_some_and(Scope::is_closing)",
        replacement: "false",
    },
    // A tenant that has not moved in is only looked at: it does not see that the scope is closing.
    Structural {
        name: "cancel-only-looks",
        file: "kexec/src/task/state.rs",
        original: "self.0.compare_exchange_weak(seen, wanted, AcqRel, Relaxed)",
        replacement: "if live { self.0.compare_exchange_weak(seen, wanted, AcqRel, Relaxed) } else { Ok(seen) }",
    },
    // The state of a scope is believed while whoever ended it still has its lock.
    Structural {
        name: "closed-without-the-lock",
        file: "kexec/src/scope.rs",
        original: "scope.members.with(home, |_| scope.state.load(Relaxed))",
        replacement: "scope.state.load(Relaxed)",
    },
    // A member that leaves does not cancel the next.
    Structural {
        name: "next-not-cancelled",
        file: "kexec/src/scope/members.rs",
        original: "{ change(members); self.next(members) }",
        replacement: "{ change(members); Next::Wait }",
    },
    // A member that has left looks at the scope again, which may be gone.
    Structural {
        name: "left-in-two-steps",
        file: "kexec/src/scope.rs",
        original: "self.after(home, |members| members.remove(task.into()))",
        replacement: "{ self.members.with(home, |members| members.remove(task.into())); self.advance(home) }",
    },
    // The scope around it does not hold a scope that it is about to close.
    Structural {
        name: "inner-scope-not-held",
        file: "kexec/src/scope.rs",
        original: "self.state.compare_exchange(OPEN, HELD, Relaxed, Relaxed).is_ok()",
        replacement: "self.state.compare_exchange(OPEN, CLOSING, Relaxed, Relaxed).is_ok()",
    },
    // The last to leave does not go on with the scope around.
    Structural {
        name: "outer-scope-forgotten",
        file: "kexec/src/scope/members.rs",
        original: "Next::Over { outer: members.outer }",
        replacement: "Next::Over { outer: None }",
    },
    // A scope that is being closed has come to one that is being nested, and is not told when it may go on.
    Structural {
        name: "nested-into-a-closing-scope",
        file: "kexec/src/scope.rs",
        original: "nested.is_ok()",
        replacement: "false",
    },
    // The scope goes on while an epilogue has not returned.
    Structural {
        name: "epilogue-not-waited-for",
        file: "kexec/src/scope/members.rs",
        original: "members.leaving != 0",
        replacement: "false",
    },
    // A slot that somebody waits for is freed in silence.
    Structural {
        name: "freed-in-silence",
        file: "kexec/src/task/store.rs",
        original: "seen & Self::WANTED == 0",
        replacement: "true",
    },
    // Who waits for a slot looks first, and asks to be told after that.
    Structural {
        name: "looks-before-it-asks",
        file: "kexec/src/task/store.rs",
        original: "self.top.fetch_or(Self::WANTED, Relaxed)",
        replacement: "{ let seen = self.top.load(Relaxed); self.top.fetch_or(Self::WANTED, Relaxed); seen }",
    },
    // A leader that is dropped tells nobody.
    Structural {
        name: "lead-not-passed-on-drop",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "waiters.queue.with(*this.home, |queue| unsafe { waiters.leave(queue, node, source) }).complete()",
        replacement: "drop(waiters.queue.with(*this.home, |queue| unsafe { waiters.leave(queue, node, source) }))",
    },
    // A leader that has what it wanted tells nobody.
    Structural {
        name: "lead-not-passed-on-grant",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "handover.complete()",
        replacement: "drop(handover)",
    },
    // The next leader is named, and what has come before is not seen.
    Structural {
        name: "passed-without-looking",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "task.is_none() || source.grant(word, place.ask).is_some()",
        replacement: "task.is_none()",
    },
    // A leader that is no task is not called to register.
    Structural {
        name: "foreigner-not-called",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "task.is_none() || source.grant(word, place.ask).is_some()",
        replacement: "source.grant(word, place.ask).is_some()",
    },
    // A leader looks before it is named, and not after.
    Structural {
        name: "looks-before-it-is-named",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "{ stale = waiters.leader.name(task); waiters.arm(); waiters.take(Turn::Leader, grant) }",
        replacement: "{ let granted = waiters.take(Turn::Leader, grant); stale = waiters.leader.name(task); waiters.arm(); granted }",
    },
    // A leader that is no task does not look after it has registered.
    Structural {
        name: "foreigner-looks-before",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "grant(waiters.arm()).is_some()",
        replacement: "false",
    },
    // `WAITERS` is set by somebody who has not been named yet.
    Structural {
        name: "armed-before-named",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "{ stale = waiters.leader.name(task); waiters.arm(); waiters.take(Turn::Leader, grant) }",
        replacement: "{ waiters.arm(); let granted = waiters.take(Turn::Leader, grant); stale = waiters.leader.name(task); granted }",
    },
    // `WAITERS` is cleared when the first one leaves, and others are still there.
    Structural {
        name: "disarmed-too-early",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "self.arm()",
        replacement: "{ self.disarm(); self.word() }",
    },
    // `WAITERS` stays when the last one has left.
    Structural {
        name: "never-disarmed",
        file: "kexec/src/sync/waiters/wait.rs",
        original: "self.disarm()",
        replacement: "()",
    },
    // A newcomer takes what others are queued for.
    Structural {
        name: "barging",
        file: "kexec/src/sync/waiters.rs",
        original: "turn == Turn::Newcomer && waiters != 0",
        replacement: "false",
    },
    // A reset makes the sets before it undone.
    Structural {
        name: "reset-unseen",
        file: "kexec/src/sync/event.rs",
        original: "(word & !SET).wrapping_add(EPOCH) & EPOCHS",
        replacement: "word & !SET",
    },
    // A sender does not wake who waits for the answer.
    Structural {
        name: "answered-in-silence",
        file: "kexec/src/sync/oneshot.rs",
        original: "before & WAITING != 0",
        replacement: "false",
    },
    // A receiver looks for the answer before it says that it waits, and not after.
    Structural {
        name: "looks-before-it-waits",
        file: "kexec/src/sync/oneshot.rs",
        original: "this.slot.ends.fetch_or(WAITING, Release)",
        replacement: "{ let seen = this.slot.ends.load(Relaxed); this.slot.ends.fetch_or(WAITING, Release); seen }",
    },
    // An answer that comes together with the receiver's end is kept for the next request.
    Structural {
        name: "answer-left-behind",
        file: "kexec/src/sync/oneshot.rs",
        original: "drop(self.outcome())",
        replacement: "()",
    },
    // Who did not get a lock unlocks it.
    Structural {
        name: "unlocked-by-who-tried",
        file: "kexec/src/sync/spin.rs",
        original: "self.held.compare_exchange(0, 1, Acquire, Relaxed).ok()?",
        replacement: "{ let had = self.held.compare_exchange(0, 1, Acquire, Relaxed).ok(); if had.is_none() { self.held.store(0, Release); } had? }",
    },
    // A sender fills the slot that is waited for, and wakes nobody.
    Structural {
        name: "filled-in-silence",
        file: "kexec/src/sync/channel/slot.rs",
        original: "before & AWAITED != 0",
        replacement: "false",
    },
    // A sender leaves its value to a receiver that is gone.
    Structural {
        name: "gone-unnoticed",
        file: "kexec/src/sync/channel/slot.rs",
        original: "before & GONE != 0",
        replacement: "false",
    },
    // The last sender does not wake who waits for more.
    Structural {
        name: "last-sender-silent",
        file: "kexec/src/sync/channel.rs",
        original: "unsafe { channel.slot(next(word)) }.knock()",
        replacement: "false",
    },
    // The last sender closes a channel that may be another's already.
    Structural {
        name: "left-before-closed",
        file: "kexec/src/sync/channel.rs",
        original: "channel.waiters.set(CLOSED)",
        replacement: "{ channel.ends.fetch_and(!SENDERS, Release); channel.waiters.set(CLOSED) }",
    },
    // A closed channel has ended, whatever is still in it.
    Structural {
        name: "ended-before-drained",
        file: "kexec/src/sync/channel/receiver.rs",
        original: "word & CLOSED != 0 && free(word) == N as u64",
        replacement: "word & CLOSED != 0",
    },
    // The receiver says in no slot that it waits.
    Structural {
        name: "waits-in-secret",
        file: "kexec/src/sync/channel/receiver.rs",
        original: "self.next().wait()",
        replacement: "()",
    },
    // A watch's version goes back to that of a slower sender.
    Structural {
        name: "version-goes-back",
        file: "kexec/src/sync/watch.rs",
        original: "word < version",
        replacement: "true",
    },
    // A user is let in while it runs down.
    Structural {
        name: "let-in-while-running-down",
        file: "kexec/src/sync/rundown.rs",
        original: "seen & RUNNING_DOWN == 0 && guards(seen) != ALL",
        replacement: "guards(seen) != ALL",
    },
    // The last guard does not see that it tells a waiter that leads no more.
    Structural {
        name: "look-not-counted",
        file: "kexec/src/sync/rundown.rs",
        original: "self.refs.fetch_add(LOOK, AcqRel)",
        replacement: "self.refs.fetch_add(0, AcqRel)",
    },
    // The last guard tells nobody.
    Structural {
        name: "last-guard-silent",
        file: "kexec/src/sync/rundown.rs",
        original: "waiters.take_waker().or(waiter)",
        replacement: "waiter",
    },
    // A waiter of one rundown waits for the next one as well.
    Structural {
        name: "rundowns-not-told-apart",
        file: "kexec/src/sync/rundown.rs",
        original: "seen.wrapping_sub(RUNNING_DOWN).wrapping_add(EPOCH)",
        replacement: "seen.wrapping_sub(RUNNING_DOWN)",
    },
];
