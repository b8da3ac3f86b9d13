//! Grants and event channels as Linux offers them to a program: `/dev/xen/gntdev` and `/dev/xen/evtchn`.
//!
//! Source: `include/uapi/xen/gntdev.h` and `include/uapi/xen/evtchn.h` of Linux.
#![expect(
    unsafe_code,
    reason = "a device does what its header says, and memory can be had only by its address"
)]

use std::{
    ffi::c_void,
    fs::File,
    io::{Read as _, Write as _},
    ops::Deref,
    os::fd::{AsFd, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
};

use anyhow::{Context, Result};
use rustix::{
    io::Errno,
    ioctl::{Direction, Ioctl, IoctlOutput, Opcode, ioctl, opcode},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

const PAGE_SIZE: usize = 4096;
/// How many words a page has.
pub(crate) const WORDS: usize = PAGE_SIZE / size_of::<u64>();

const GNTDEV: &str = "/dev/xen/gntdev";
const EVTCHN: &str = "/dev/xen/evtchn";

/// What can be asked of one of the two devices.
///
/// # Safety
///
/// It has the layout of the structure that the device's header declares for this number, and nothing in it is an
/// address.
unsafe trait Request: Copy {
    const GROUP: u8;
    const NUMBER: u8;
    const NAME: &'static str;
    /// Neither header says which way the data goes.
    const OPCODE: Opcode =
        opcode::from_components(Direction::None, Self::GROUP, Self::NUMBER, size_of::<Self>());
}

/// `struct ioctl_gntdev_map_grant_ref`, for one grant.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct MapGrantRef {
    count: u32,
    pad: u32,
    /// Where in the device the page then is.
    index: u64,
    domid: u32,
    reference: u32,
}

/// `struct ioctl_gntdev_unmap_grant_ref`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct UnmapGrantRef {
    index: u64,
    count: u32,
    pad: u32,
}

/// `struct ioctl_evtchn_bind_interdomain`: the answer is the port at this end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}

/// `struct ioctl_evtchn_notify`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Notify {
    port: u32,
}

// SAFETY: a test compares it with the header.
unsafe impl Request for MapGrantRef {
    const GROUP: u8 = b'G';
    const NUMBER: u8 = 0;
    const NAME: &'static str = "IOCTL_GNTDEV_MAP_GRANT_REF";
}

// SAFETY: a test compares it with the header.
unsafe impl Request for UnmapGrantRef {
    const GROUP: u8 = b'G';
    const NUMBER: u8 = 1;
    const NAME: &'static str = "IOCTL_GNTDEV_UNMAP_GRANT_REF";
}

// SAFETY: a test compares it with the header.
unsafe impl Request for BindInterdomain {
    const GROUP: u8 = b'E';
    const NUMBER: u8 = 1;
    const NAME: &'static str = "IOCTL_EVTCHN_BIND_INTERDOMAIN";
}

// SAFETY: a test compares it with the header.
unsafe impl Request for Notify {
    const GROUP: u8 = b'E';
    const NUMBER: u8 = 4;
    const NAME: &'static str = "IOCTL_EVTCHN_NOTIFY";
}

/// A request on its way to a device and back, with the number that the device answers.
struct Call<R>(R);

// SAFETY: `as_ptr` is where the request is, which the kernel may write to, and whose layout and number belong together.
unsafe impl<R: Request> Ioctl for Call<R> {
    type Output = (IoctlOutput, R);

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        R::OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, request: *mut c_void) -> Result<Self::Output, Errno> {
        // SAFETY: it is what `as_ptr` has returned, and all that the kernel writes there is numbers.
        let request = unsafe { request.cast::<R>().read() };
        Ok((answer, request))
    }
}

/// One of the two devices, opened.
#[derive(Debug)]
struct Device(File);

impl Device {
    fn open(path: &str) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        file.map(Self).with_context(|| format!("could not open {path}"))
    }

    fn call<R: Request>(&self, request: R) -> Result<(IoctlOutput, R)> {
        // SAFETY: a request is what its header declares. Neither device has one of the other's group, and none of these
        // gives a page away that is still mapped.
        unsafe { ioctl(&self.0, Call(request)) }.context(R::NAME)
    }
}

/// What can map pages of other domains.
#[derive(Debug)]
pub(crate) struct Grants(Device);

/// A page of another domain, mapped for writing.
#[derive(Debug)]
pub(crate) struct Grant {
    page: Page,
    index: u64,
}

impl Grants {
    pub(crate) fn open() -> Result<Self> {
        Device::open(GNTDEV).map(Self)
    }

    /// Maps what a domain has granted to this one. Xen is asked when the memory is mapped; Linux says of whatever it
    /// refuses that it is no valid argument.
    pub(crate) fn map(&self, domain: u16, reference: u32) -> Result<Grant> {
        let of_whom = || format!("grant {reference} of domain {domain}");
        let domid = u32::from(domain);
        let request = MapGrantRef { count: 1, domid, reference, ..MapGrantRef::default() };
        let (_, MapGrantRef { index, .. }) = self.0.call(request).with_context(of_whom)?;
        let page = Page::map(&self.0.0, index).context("mmap").with_context(of_whom)?;
        Ok(Grant { page, index })
    }

    /// Gives a page back.
    pub(crate) fn unmap(&self, grant: Grant) -> Result<()> {
        let Grant { page, index } = grant;
        drop(page);
        self.0.call(UnmapGrantRef { index, count: 1, pad: 0 })?;
        Ok(())
    }
}

impl Deref for Grant {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

/// A page of memory that somebody else may write to at any time.
#[derive(Debug)]
pub(crate) struct Page(NonNull<[AtomicU64; WORDS]>);

impl Page {
    /// Maps a page of what may be larger.
    pub(crate) fn map(file: impl AsFd, offset: u64) -> Result<Self, Errno> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place where nothing is.
        let address = unsafe { mmap(ptr::null_mut(), PAGE_SIZE, access, MapFlags::SHARED, file, offset) }?;
        NonNull::new(address.cast()).map(Self).ok_or(Errno::NOMEM)
    }
}

impl Deref for Page {
    type Target = [AtomicU64; WORDS];

    fn deref(&self) -> &Self::Target {
        // SAFETY: a whole page is mapped there until `self` is dropped, and atomic numbers may be written by others,
        // whoever they are.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: it is mapped there, and whoever borrows it borrows `self`.
        let unmapped = unsafe { munmap(self.0.as_ptr().cast(), PAGE_SIZE) };
        assert_eq!(unmapped, Ok(()), "a page that was mapped can be unmapped");
    }
}

/// This end of an event channel. It is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    device: Device,
    number: u32,
}

impl Port {
    /// Binds a port of another domain's that waits for that. An event is pending here from then on.
    pub(crate) fn bind(domain: u16, port: u32) -> Result<Self> {
        let device = Device::open(EVTCHN)?;
        let request = BindInterdomain { remote_domain: domain.into(), remote_port: port };
        let answer = device.call(request).with_context(|| format!("port {port} of domain {domain}"));
        let number = answer?.0.try_into().context("a port has a number")?;
        Ok(Self { device, number })
    }

    /// Notifies the other end.
    pub(crate) fn notify(&self) -> Result<()> {
        self.device.call(Notify { port: self.number })?;
        Ok(())
    }

    /// Waits for an event, takes it, and lets the next come: what is read after that is at least as new as the event.
    pub(crate) fn take(&self) -> Result<()> {
        let mut port = [0; size_of::<u32>()];
        (&self.device.0).read_exact(&mut port).with_context(|| format!("read of {EVTCHN}"))?;
        (&self.device.0).write_all(&port).with_context(|| format!("write to {EVTCHN}"))
    }
}

/// Readable when there is an event.
impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _,
        io::Write as _,
        mem::offset_of,
        process::{Command, Stdio},
    };

    use super::*;

    /// What the kernel takes these structures for is up to Linux's headers alone.
    #[test]
    fn requests_are_as_the_headers_declare_them() {
        // The headers leave these to Xen's.
        let mut program = String::from("#include <stddef.h>\n#include <linux/ioctl.h>\n");
        program += "typedef unsigned short domid_t;\ntypedef unsigned int grant_ref_t;\n";
        program += "#include <xen/gntdev.h>\n#include <xen/evtchn.h>\n";
        let mut equal = |c: &str, ours: usize| {
            writeln!(program, "_Static_assert({c} == {ours}, \"{ours}\");").expect("it is a string");
        };
        equal(MapGrantRef::NAME, MapGrantRef::OPCODE as usize);
        equal("sizeof(struct ioctl_gntdev_map_grant_ref)", size_of::<MapGrantRef>());
        equal("offsetof(struct ioctl_gntdev_map_grant_ref, count)", offset_of!(MapGrantRef, count));
        equal("offsetof(struct ioctl_gntdev_map_grant_ref, index)", offset_of!(MapGrantRef, index));
        equal("offsetof(struct ioctl_gntdev_map_grant_ref, refs[0].domid)", offset_of!(MapGrantRef, domid));
        equal("offsetof(struct ioctl_gntdev_map_grant_ref, refs[0].ref)", offset_of!(MapGrantRef, reference));
        equal(UnmapGrantRef::NAME, UnmapGrantRef::OPCODE as usize);
        equal("sizeof(struct ioctl_gntdev_unmap_grant_ref)", size_of::<UnmapGrantRef>());
        equal("offsetof(struct ioctl_gntdev_unmap_grant_ref, index)", offset_of!(UnmapGrantRef, index));
        equal("offsetof(struct ioctl_gntdev_unmap_grant_ref, count)", offset_of!(UnmapGrantRef, count));
        equal(BindInterdomain::NAME, BindInterdomain::OPCODE as usize);
        let bind = "struct ioctl_evtchn_bind_interdomain";
        equal(&format!("sizeof({bind})"), size_of::<BindInterdomain>());
        equal(&format!("offsetof({bind}, remote_domain)"), offset_of!(BindInterdomain, remote_domain));
        equal(&format!("offsetof({bind}, remote_port)"), offset_of!(BindInterdomain, remote_port));
        equal(Notify::NAME, Notify::OPCODE as usize);
        equal("sizeof(struct ioctl_evtchn_notify)", size_of::<Notify>());
        equal("offsetof(struct ioctl_evtchn_notify, port)", offset_of!(Notify, port));

        let mut gcc = Command::new("gcc")
            .args(["-xc", "-std=gnu11", "-fsyntax-only", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("apt-get install --no-install-recommends gcc libc6-dev");
        gcc.stdin.take().expect("it was asked for").write_all(program.as_bytes()).expect("it reads");
        let output = gcc.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
