//! What a check has found, and the report of a run that failed.
#![forbid(unsafe_code)]

use std::{error::Error, fmt, ops::Deref};

/// Writes the enumeration of verdicts, their list and their sentences from one table.
macro_rules! verdicts {
    ($($(#[doc = $group:literal])? $name:ident: $sentence:literal,)*) => {
        /// What a check has found: one name for each check there is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Verdict {
            $(#[doc = $sentence] $name,)*
        }

        impl Verdict {
            /// All of them: a gate can see to it that each has been tripped.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What is wrong, in one sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

verdicts! {
    // Levels and locks.
    IrqlAtCall: "an export was called at an IRQL at which it must not be",
    IrqlAtReturn: "a routine returned at another IRQL than it was called at",
    IrqlOrder: "the IRQL was raised downwards, lowered upwards, or lowered to something that no raise returned",
    LockAtReturn: "a routine returned with a spin lock that it had acquired",
    LockAtCompletion: "an IRP was completed while a spin lock was held",
    LockRecursive: "a spin lock was acquired by its owner",
    LockNotOwned: "a spin lock was released by somebody who did not own it",
    LockMismatch: "a spin lock was released by the routine that does not go with the one that acquired it",
    WaitAtDispatch: "a wait that can block at `DISPATCH_LEVEL`",
    Deadlock: "spin locks are waited for in a circle",
    Hang: "what was waited for never happened",
    // Memory.
    StackOverflow: "the kernel stack overflowed",
    PoolOverrun: "memory beside a pool block was touched",
    PoolSlack: "bytes beside a pool block had been overwritten when it was freed",
    UseAfterFree: "freed memory was touched",
    BadFree: "what was freed is not an allocated pool block of that tag",
    FreedInUse: "memory was freed with something in it that the kernel still uses",
    Leak: "pool memory was never freed",
    BadPointer: "the kernel was given a pointer to no memory of the driver",
    PageFault: "memory that does not exist was touched",
    ReadOnlyWrite: "a section of the image that is not writable was written to",
    NotInitialized: "a kernel object was used before it was initialized",
    Reinitialized: "a kernel object was initialized while it was in use",
    // Threads and handles.
    ThreadLeft: "a system thread of the driver's did not exit",
    UserHandle: "a handle was asked for that user mode could use",
    BadHandle: "what was used is not an open handle of that kind",
    HandleLeft: "a handle was never closed",
    // IRPs.
    IrpTouched: "an IRP or its buffer was touched after its completion",
    IrpCompletedTwice: "an IRP was completed that was complete already",
    IrpPending: "`STATUS_PENDING` and `IoMarkIrpPending` do not agree",
    IrpStatus: "the status of an IRP was not set, or is not what the dispatch routine returned",
    IrpInformation: "more output was reported than the buffer can hold",
    IrpStack: "the stack locations of an IRP are not as they must be",
    IrpLost: "an IRP was never completed",
    // Plug and Play.
    NotForwarded: "an IRP was completed that had to be passed down",
    StartOrder: "the device was used before the drivers below had started it",
    RemoveFailed: "an IRP that must not fail did",
    DeviceLeft: "a device object was left in the stack, or not deleted",
    DeviceInitializing: "`DO_DEVICE_INITIALIZING` was not cleared by `AddDevice`",
    InterruptLeft: "an interrupt was left connected",
    InterruptUnclaimed: "the device's interrupt was not claimed",
    RemoveLock: "a remove lock was misused",
    InUseAtUnload: "the image was unloaded while the kernel would still call into it",
    Refused: "the driver refused what the scenario expects it to do",
    MissingExport: "the driver imports something that the kernel does not export",
    // The machine.
    Bugcheck: "the driver called `KeBugCheckEx`, or failed fast",
    Exception: "the processor raised an exception that nobody handles",
    Privileged: "an instruction that a driver must not use, or not here",
    Misaligned: "an export was called with a misaligned stack",
    Clobbered: "a nonvolatile register was not preserved",
    Unwind: "the kernel could not unwind the stack",
    NotModelled: "the driver asked for something that is not modelled here",
    FormatString: "`DbgPrintEx` was given a format that it does not know",
    NotInDump: "an export was called that is not there while a dump is written",
}

impl Verdict {
    /// What was found, with the facts.
    pub(crate) fn because(self, facts: impl Into<String>) -> Finding {
        Finding { verdict: self, facts: facts.into(), at: None }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// What a check has found, before it is known where.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    pub(crate) facts: String,
    /// The instruction, where it is another than the call that was being answered.
    pub(crate) at: Option<u64>,
}

impl Finding {
    pub(crate) fn at(mut self, address: u64) -> Self {
        self.at = Some(address);
        self
    }
}

/// A run that failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(Box<Report>);

/// What was found, where, and how it came to that.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// What was found.
    pub verdict: Verdict,
    /// The facts, in one line.
    pub facts: String,
    /// The place in the driver: `probe.sys+0x1a2b`, with a function where the symbols tell.
    pub place: String,
    /// The options of the run, its seed among them: they are all that it takes to see it again.
    pub run: String,
    /// Who did it, where and when.
    pub moment: String,
    /// The last lines of the trace.
    pub tail: Vec<String>,
}

impl Deref for Failure {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.0
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self(Box::new(report))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}: {}", self.verdict, self.verdict)?;
        writeln!(f, "  {}", self.facts)?;
        writeln!(f, "  at {}", self.place)?;
        writeln!(f, "  by {}", self.moment)?;
        writeln!(f, "  in the run of {}", self.run)?;
        writeln!(f, "  the last lines of its trace (NT_SIM_TRACE=1 prints all of them):")?;
        self.tail.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// As it is shown: `unwrap` and a test's `?` print this.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failure {}
