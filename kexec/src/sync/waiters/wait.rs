//! The future of a wait.
#![expect(
    unsafe_code,
    reason = "a node is linked while its future is pinned, and unlinked when that is dropped"
)]

use core::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use pin_project::{pin_project, pinned_drop};

use super::{
    Source, Turn, Waiters,
    queue::{Node, Queue},
};
use crate::{home::Home, task::Task, task_table::Leaf};

/// The future of a wait for one of the primitives of [`sync`](crate::sync).
///
/// It does nothing before its first poll, which takes what is there, or queues.
///
/// **Cancel-safe:** it *loses its place* in the queue, and nothing else. It may be dropped anywhere up to
/// `DISPATCH_LEVEL`, and be moved to another executor between two polls if it is not pinned to a task.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Wait<'a, S: Source> {
    source: &'a S,
    ask: S::Ask,
    #[pin]
    node: Node<S::Ask>,
    /// The node is in the queue.
    queued: bool,
    /// Who polled it last.
    home: Home,
    leaf: Leaf,
}

/// What a poll found.
enum Found {
    /// Its turn, and what the word was then.
    Granted(u64, Handover),
    /// Nothing yet; and the next signal is for this waiter.
    Leads,
    /// Others are before it.
    Behind,
}

/// What is left to do for who has left the queue, once that is not locked any more.
#[must_use = "the next leader may have to be woken"]
struct Handover {
    /// Its turn has come.
    next: Option<Waker>,
    /// Is only dropped.
    _stale: Option<Waker>,
}

impl Handover {
    fn complete(self) {
        self.next.into_iter().for_each(Waker::wake);
    }
}

impl<'a, S: Source> Wait<'a, S> {
    pub(crate) fn new(source: &'a S, ask: S::Ask, leaf: Leaf) -> Self {
        Self { source, ask, node: Node::new(ask), queued: false, home: Home::NONE, leaf }
    }
}

impl<'a, S: Source> Future for Wait<'a, S> {
    type Output = S::Got<'a>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S::Got<'a>> {
        let this = self.project();
        let (source, ask, node) = (*this.source, *this.ask, this.node.into_ref());
        let waiters = source.waiters();
        let grant = |word| source.grant(word, ask);
        if !*this.queued
            && let Some(word) = waiters.take(Turn::Newcomer, grant)
        {
            return Poll::Ready(source.got(word, ask));
        }

        *this.home = Home::of(cx);
        let task = Task::of(cx.waker());
        // What is dropped, or woken, is so when the queue is not locked any more.
        let mut waker = Some(cx.waker().clone());
        let mut stale = None;
        let found = waiters.queue.with(*this.home, |queue| {
            if !*this.queued {
                // SAFETY: the node is in no queue. It is pinned, and the drop of this future takes it out.
                unsafe { queue.push(node) };
                *this.queued = true;
            }
            // SAFETY: it is in this queue, which is locked.
            unsafe { node.swap_waker(&mut waker) };
            if !queue.is_first(node) {
                return Found::Behind;
            }
            let granted = waiters.take(Turn::Leader, grant).or_else(|| {
                stale = waiters.leader.name(task);
                waiters.arm();
                waiters.take(Turn::Leader, grant)
            });
            let Some(word) = granted else { return Found::Leads };
            *this.queued = false;
            // SAFETY: it is in this queue.
            Found::Granted(word, unsafe { waiters.leave(queue, node, source) })
        });
        drop((waker, stale));
        match found {
            Found::Granted(word, handover) => {
                handover.complete();
                return Poll::Ready(source.got(word, ask));
            }
            Found::Leads if task.is_none() => {
                // A signal may have come and called nobody: look again.
                waiters.leader.register(cx.waker());
                if grant(waiters.arm()).is_some() {
                    cx.waker().wake_by_ref();
                }
            }
            Found::Leads | Found::Behind => {}
        }
        this.leaf.park(cx);
        Poll::Pending
    }
}

impl<A: Copy> Waiters<A> {
    /// Takes a node out of the queue. If it was the leader, the next one is named, and to be woken if its turn has come.
    ///
    /// # Safety
    ///
    /// The node is in this queue.
    unsafe fn leave<S: Source<Ask = A>>(
        &self,
        queue: &mut Queue<A>,
        node: Pin<&Node<A>>,
        source: &S,
    ) -> Handover {
        let led = queue.is_first(node);
        // SAFETY: passed on.
        unsafe { queue.unlink(node) };
        if !led {
            return Handover { next: None, _stale: None };
        }
        let succession = queue.with_first(|place| {
            let task = place.waker.as_ref().and_then(Task::of);
            let stale = self.leader.name(task);
            let word = self.arm();
            // What is no task has to be polled to register.
            let wanted = task.is_none() || source.grant(word, place.ask).is_some();
            Handover { next: if wanted { place.waker.take() } else { None }, _stale: stale }
        });
        succession.unwrap_or_else(|| {
            self.disarm();
            Handover { next: None, _stale: self.leader.forget_other() }
        })
    }
}

#[pinned_drop]
impl<S: Source> PinnedDrop for Wait<'_, S> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if *this.queued {
            let (source, node) = (*this.source, this.node.into_ref());
            let waiters = source.waiters();
            // SAFETY: it is in this queue.
            waiters.queue.with(*this.home, |queue| unsafe { waiters.leave(queue, node, source) }).complete();
        }
    }
}

impl<S: Source> fmt::Debug for Wait<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("queued", &self.queued).finish_non_exhaustive()
    }
}
