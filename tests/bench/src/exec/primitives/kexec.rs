//! kexec's own primitives, labels and events; in two builds, with all features and with none.

/// The same library for two builds of one crate.
macro_rules! library {
    ($module:ident, $kexec:ident, [$($more:tt)*]) => {
        pub(super) mod $module {
            use std::future::Future;
            use std::hint::black_box;
            use std::pin::Pin;
            use std::sync::atomic::Ordering::Relaxed;
            use std::task::{Context, Poll};
            use std::time::Duration;

            use $kexec::sync::channel::{self, Receiver, Sender};
            use $kexec::sync::{Mutex, MutexGuard, Semaphore};
            use $kexec::task_table::{Kind, Label, Leaf};
            use $kexec::time::Sleep;
            use $kexec::trace::{self, Output, Ring};

            use super::super::work::{self, Channel, Lock, Permits, Time};
            use super::super::{Case, Library};
            use crate::exec::cases::{Driven, Executor, Peer};
            use crate::exec::peers::kexec::{TRACED_ONCE, $module::{Least, Roomy, Sleepy}};

            pub(in super::super) const LIBRARY: Library = Library {
                name: Least::NAME,
                cases: &[
                    (Case::Acquire, work::acquire::<Roomy, Semaphore>),
                    (Case::SemaphoreHop, work::semaphore_hop::<Roomy, Semaphore>),
                    (Case::MutexHop, work::mutex_hop::<Roomy, Mutex<()>>),
                    (Case::Channel, work::channel::<Roomy, Values>),
                    (Case::Select, work::select_ready::<Roomy, Semaphore>),
                    (Case::SelectHop, work::select_hop::<Roomy, Semaphore>),
                    (Case::TimerSet, work::timer_set::<Sleepy, Timers>),
                    (Case::TimerCancel, work::timer_cancel::<Sleepy, Timers>),
                    (Case::TimerFire, work::timer_fire::<Sleepy, Timers>),
                    (Case::Park, park),
                    (Case::LabelledPark, labelled_park),
                    (Case::EventOff, event_off),
                    (Case::TracedOnce, traced_once),
                    $($more)*
                ],
            };

            impl Permits for Semaphore {
                fn new(permits: u32) -> Self {
                    let semaphore = Self::new(SIZE);
                    let absent = SIZE - permits;
                    semaphore.try_acquire(absent).expect("all permits are there").forget();
                    semaphore
                }

                async fn pass(&'static self) {
                    drop(self.acquire(1).await);
                }

                async fn take(&'static self) {
                    self.acquire(1).await.expect("nobody closes it").forget();
                }

                fn put(&'static self) {
                    self.release(1).expect("one was forgotten");
                }
            }

            /// Permits are made by releasing what was forgotten, of so many.
            const SIZE: u32 = 2;

            impl Lock for Mutex<()> {
                type Guard = MutexGuard<'static, ()>;

                fn new() -> Self {
                    Self::new(())
                }

                fn lock(&'static self) -> impl Future<Output = Self::Guard> + Send {
                    self.lock()
                }
            }

            struct Values;

            impl Channel for Values {
                type Sender = Sender<'static, u64, 16>;
                type Receiver = Receiver<'static, u64, 16>;

                fn new() -> (Self::Sender, Self::Receiver) {
                    Box::leak(Box::new(channel::Channel::new())).split()
                }

                async fn send(sender: &mut Self::Sender, value: u64) {
                    assert!(Sender::send(sender, value).await.is_ok(), "the receiver is there");
                }

                async fn receive(receiver: &mut Self::Receiver) -> u64 {
                    receiver.recv().await.expect("the sender is there")
                }
            }

            struct Timers;

            impl Time for Timers {
                type Sleep = Sleep;

                fn sleep(duration: Duration) -> Sleep {
                    $kexec::time::sleep(duration)
                }
            }

            /// Wakes itself and parks, a number of times.
            struct Parks {
                left: u64,
                leaf: Leaf,
            }

            impl Parks {
                #[track_caller]
                fn new(count: u64) -> Self {
                    static KIND: Kind = Kind::new("next turn");
                    Self { left: count, leaf: Leaf::new(&KIND) }
                }
            }

            impl Future for Parks {
                type Output = ();

                fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
                    if self.left == 0 {
                        return Poll::Ready(());
                    }
                    self.left -= 1;
                    cx.waker().wake_by_ref();
                    self.leaf.park(cx);
                    Poll::Pending
                }
            }

            fn park(n: u64) {
                work::all::<Roomy, _>(1, |_| Parks::new(n));
            }

            fn labelled_park(n: u64) {
                work::all::<Roomy, _>(1, |_| Parks::new(n).label("its turn"));
            }

            /// Somebody listens, but not at this level.
            fn event_off(n: u64) {
                static RING: Ring<64> = Ring::new();
                static OUTPUT: Output = Output::new(&RING);

                trace::set_output(Some(&OUTPUT));
                for number in 0..n {
                    black_box(number);
                    $kexec::debug!("a step");
                }
                assert!(RING.entries().next().is_none(), "the event is off");
            }

            fn traced_once(n: u64) {
                TRACED_ONCE.store(1, Relaxed);
                Driven::<Least>::PEER.wake_poll(n);
            }
        }
    };
}

library!(with_table, kexec, [(Case::EventRing, super::event_ring)]);
library!(bare, kexec_bare, []);

/// The build without features has no events.
fn event_ring(n: u64) {
    use kexec::trace::{self, Limit, Output, Ring};

    static RING: Ring<64> = Ring::new();
    static OUTPUT: Output = Output::new(&RING);

    trace::set_output(Some(&OUTPUT));
    for step in 0..n {
        kexec::info!(limit: Limit::NONE, "step {step}");
    }
    let last = RING.entries().last().map(|entry| entry.number());
    assert_eq!(last, n.checked_sub(1), "each event is in the ring");
}
