//! A token is of the CPU that reached the level: nothing that holds one goes to another thread.

use kexec::{irql::Dispatch, yield_now};

fn to_another_thread(_: impl Future + Send) {}

async fn lent(at: &Dispatch) {
    yield_now().await;
    _ = at;
}

async fn given(at: Dispatch) {
    yield_now().await;
    drop(at);
}

fn wrong(at: &Dispatch, own: Dispatch) {
    to_another_thread(lent(at));
    to_another_thread(given(own));
}

fn main() {}
