//! A device control request with buffered data: answered once, at once or later.
#![expect(unsafe_code, reason = "the buffer's address and length are NT's")]

use core::slice;

use nt_sys::{STATUS_BUFFER_TOO_SMALL, STATUS_CANCELLED, STATUS_SUCCESS};

use crate::{
    irp::{Dispatched, Irp},
    remove_lock::Held,
    status::Status,
};

/// A request, in the dispatch routine that received it. All methods up to `DISPATCH_LEVEL`.
#[derive(Debug)]
#[must_use = "whoever sent the request waits for its answer"]
pub struct Request {
    irp: Irp,
    held: Held,
}

/// A request that is answered later. All methods up to `DISPATCH_LEVEL`.
///
/// When it is dropped without an answer, that is `STATUS_CANCELLED`.
#[derive(Debug)]
#[must_use = "dropping it cancels the request"]
pub struct Pended {
    /// Until it is answered.
    request: Option<Request>,
}

impl Request {
    /// The IRP is an `IRP_MJ_DEVICE_CONTROL` of `METHOD_BUFFERED`.
    pub(crate) fn new(irp: Irp, held: Held) -> Self {
        Self { irp, held }
    }

    /// The control code.
    #[must_use]
    pub fn code(&self) -> u32 {
        // SAFETY: this is a device control request.
        unsafe { self.irp.stack().Parameters.DeviceIoControl.IoControlCode }
    }

    /// How many bytes of an answer the sender has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        // SAFETY: this is a device control request.
        unsafe { self.irp.stack().Parameters.DeviceIoControl.OutputBufferLength as usize }
    }

    /// Answers with data, all or nothing: with less room than that, the answer is `STATUS_BUFFER_TOO_SMALL`.
    pub fn reply(mut self, data: &[u8]) -> Dispatched {
        let Some(output) = self.output().get_mut(..data.len()) else {
            return self.fail(Status::failure(STATUS_BUFFER_TOO_SMALL));
        };
        output.copy_from_slice(data);
        self.finish(STATUS_SUCCESS, data.len())
    }

    /// Answers that it failed.
    pub fn fail(self, status: Status) -> Dispatched {
        self.finish(status.code(), 0)
    }

    /// Answers later: `keep` has the request from now on.
    pub fn pend(self, keep: impl FnOnce(Pended)) -> Dispatched {
        let Self { irp, held } = self;
        irp.pend(|irp| keep(Pended { request: Some(Self { irp, held }) }))
    }

    /// The buffer that NT copies to the sender, or nothing.
    fn output(&mut self) -> &mut [u8] {
        let room = self.room();
        let buffer = self.irp.system_buffer();
        if buffer.is_null() {
            return &mut [];
        }
        // SAFETY: for buffered data NT has allocated the larger of the two lengths; it belongs to the request.
        unsafe { slice::from_raw_parts_mut(buffer, room) }
    }

    /// The IRP first: the lock may be what keeps the device.
    fn finish(self, status: i32, information: usize) -> Dispatched {
        let Self { irp, held } = self;
        let dispatched = irp.complete(status, information);
        drop(held);
        dispatched
    }
}

impl Pended {
    /// As [`Request::reply`].
    pub fn reply(mut self, data: &[u8]) {
        self.answer(|request| request.reply(data));
    }

    /// As [`Request::fail`].
    pub fn fail(mut self, status: Status) {
        self.answer(|request| request.fail(status));
    }

    fn answer(&mut self, answer: impl FnOnce(Request) -> Dispatched) {
        // The dispatch routine has returned `STATUS_PENDING` for it, or will.
        let _told_already = self.request.take().map(answer);
    }
}

impl Drop for Pended {
    fn drop(&mut self) {
        self.answer(|request| request.fail(Status::failure(STATUS_CANCELLED)));
    }
}
