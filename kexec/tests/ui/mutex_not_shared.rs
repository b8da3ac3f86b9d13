//! A mutex lends its value to one thread after another: it is shared only if that may go from thread to thread.

use std::{cell::Cell, rc::Rc};

use kexec::sync::{Mutex, MutexGuard};

fn shared(_: &(impl Sync + ?Sized)) {}

fn to_another_thread(_: impl Send) {}

fn wrong(mutex: Mutex<Rc<u8>>, guard: MutexGuard<'_, Cell<u8>>) {
    shared(&mutex);
    to_another_thread(mutex);
    shared(&guard);
}

fn main() {}
