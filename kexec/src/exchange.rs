//! A place for a reference that everybody reads and anybody may exchange, at any level.
#![expect(unsafe_code, reason = "a pointer stands for a reference, or for none")]
#![cfg_attr(not(loom), expect(unreachable_pub, reason = "the models reach it"))]
#![cfg_attr(
    loom,
    expect(
        clippy::new_without_default,
        clippy::must_use_candidate,
        reason = "it is public for the models only"
    )
)]

use core::{
    ptr,
    sync::atomic::Ordering::{AcqRel, Acquire},
};

use crate::atomics::{AtomicPtr, const_fn};

/// A `&'static T`, or none.
#[derive(Debug)]
pub struct Exchange<T: 'static>(AtomicPtr<T>);

impl<T: Sync + 'static> Exchange<T> {
    const_fn! {
        /// None.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicPtr::new(ptr::null_mut()))
        }
    }

    /// The one that is there. Whoever has it keeps it; another may be there by then.
    ///
    /// Acquire: it may have been made just now.
    #[inline]
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: what is not null was put there as a `&'static T`.
        unsafe { self.0.load(Acquire).as_ref() }
    }

    /// Puts another there. Returns the one that was.
    ///
    /// Release, for the new one; Acquire, for the old one.
    pub fn replace(&self, new: Option<&'static T>) -> Option<&'static T> {
        let new = new.map_or(ptr::null_mut(), |new| ptr::from_ref(new).cast_mut());
        // SAFETY: what is not null was put there as a `&'static T`.
        unsafe { self.0.swap(new, AcqRel).as_ref() }
    }
}
