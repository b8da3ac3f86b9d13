//! What may be shared by threads, and what may not: what is checked here, the compiler checks.

use std::{cell::Cell, rc::Rc};

use kexec::sync::{
    RundownGuard, RundownRef, SpinGuard, SpinLock, Watch, Watcher,
    channel::{Channel, Receiver, Sender},
    oneshot::{self, OneShot},
};

fn crosses_threads<T: Send + Sync>() {}

/// Of two ways to answer, one is for every type and one for those of the trait: for those the question has two answers.
macro_rules! is_not {
    ($trait:ident: $($type:ty),+) => {
        $({
            trait Answer<Way> {
                fn answer() {}
            }
            struct Only;
            impl<T: ?Sized> Answer<()> for T {}
            impl<T: ?Sized + $trait> Answer<Only> for T {}
            <$type as Answer<_>>::answer();
        })+
    };
}

/// A value goes from thread to thread with each of these, and so has to be `Send`; a lock's guard stays on its CPU.
#[test]
fn across_threads() {
    // `Cell` is `Send` and not `Sync`: one thread at a time has it.
    type Value = Cell<u32>;
    crosses_threads::<(OneShot<Value>, Channel<Value, 2>, Watch<Value>, SpinLock<Value>, RundownRef)>();
    crosses_threads::<(Sender<'_, Value, 2>, Receiver<'_, Value, 2>, Watcher<'_, Value>, RundownGuard<'_>)>();
    crosses_threads::<(oneshot::Sender<'_, Value>, oneshot::Receiver<'_, Value>)>();
    is_not!(Sync: OneShot<Rc<u32>>, Channel<Rc<u32>, 2>, Watch<Rc<u32>>, SpinLock<Rc<u32>>);
    is_not!(Send: OneShot<Rc<u32>>, Channel<Rc<u32>, 2>, Watch<Rc<u32>>, SpinLock<Rc<u32>>);
    is_not!(Send: Sender<'_, Rc<u32>, 2>, Receiver<'_, Rc<u32>, 2>, Watcher<'_, Rc<u32>>);
    is_not!(Send: oneshot::Sender<'_, Rc<u32>>, oneshot::Receiver<'_, Rc<u32>>, SpinGuard<'_, u32>);
    is_not!(Sync: SpinGuard<'_, u32>);
}
