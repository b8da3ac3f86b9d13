//! The auditor: what a guest does wrong, found when it does it, and what it leaves behind.
//!
//! A driver that works on one Xen may still be wrong: it may give a page back that a backend is about to write to, or
//! revoke a grant without looking whether it is in use. Such a thing is found here at the moment it is done, whether
//! or not it has done harm this time. And at the end, everything has to be given back.
//!
//! - [`Mistake`]: each thing that can be found;
//! - [`Finding`]: one that was, with its place in the guest's code and the history of the page;
//! - [`Audit`]: the verdict on a guest.
//!
//! What a right guest may do is not found, even if it is unusual: a page may be granted several times, and to several
//! domains. And what a right guest may be answered is not found: that Xen does not have a call, or has no room for
//! one more of something. Any other refusal is, unless the guest [says](crate::Guest::tolerate) that it asks on
//! purpose.
#![forbid(unsafe_code)]

mod books;
mod entries;
mod invariants;
mod mistake;
mod pages;
mod verdict;

pub use self::{
    books::Finding,
    mistake::{Culprit, Mistake},
    verdict::{Audit, Tally},
};
pub(crate) use self::{
    books::{Books, Mark},
    pages::{How, Reach},
};
