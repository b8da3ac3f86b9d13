//! Finding Xen, on a processor of an unknown maker too.
#![expect(unsafe_code, reason = "a page of the image is lent to Xen")]

use kexec::sync::Mutex;
use kexec_nt::page::Page;
use xenbus::{
    NotXen, Xen,
    seam::{Gfn, Mapped},
};

/// A page for Xen to write to: the image's own, since a crash dump can allocate none.
static PAGE: Page = Page::new();

/// Who looks for Xen has the page to itself: it clears the page first.
static LENT: Mutex<&Page> = Mutex::new(&PAGE);

/// Looks for Xen; none while another device does. Callable at any level.
pub(crate) fn xen() -> Option<Result<Xen, NotXen>> {
    let page = LENT.try_lock()?;
    Some(Xen::detect(|| {
        let frame = Gfn(page.number());
        // SAFETY: the page is data of the image's, which is not paged and may be written. Only who has the lock uses
        // it, by this, and what Xen writes is expected.
        Some(unsafe { Mapped::new(page.address(), frame) })
    }))
}
