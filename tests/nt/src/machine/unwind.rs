//! Whether the kernel could unwind a stack: the tables that an image brings for its functions (.pdata), and a walk
//! along them.
//!
//! The source is "x64 exception handling" (Microsoft Learn). The walk begins at a return address, which is never in a
//! prolog or an epilog: all of a function's prolog has been executed, and is undone.
#![forbid(unsafe_code)]

use std::{error::Error, fmt, ops::Range, rc::Rc};

use super::{
    context::Registers,
    image::{self, Loaded},
    stack, trampoline,
};

/// What undoes one step of a prolog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Pop(u8),
    Free(u32),
    /// `rsp` from the frame register.
    FromFrame,
    /// A register from its place above the base of the frame.
    Restore(u8, u32),
}

/// A function with a frame of its own, or a part of one.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) rvas: Range<u32>,
    /// The register that points into the frame, and how far above its base.
    frame: Option<(u8, u32)>,
    undo: Vec<Undo>,
}

/// The functions of an image, in the order of addresses.
#[derive(Debug, Default)]
pub(super) struct Functions(Vec<Function>);

/// Something in the tables that the loader does not understand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadTable {
    /// The function whose information it is.
    pub(super) function: u32,
    pub(super) what: String,
}

/// Bytes of an image, by rva.
struct Reader<'image> {
    image: &'image [u8],
    function: u32,
}

impl Functions {
    /// Reads the table in that part of the image.
    pub(super) fn parse(image: &[u8], table: Range<usize>) -> Result<Self, BadTable> {
        let outside =
            || BadTable { function: 0, what: format!("the table at {table:#x?} is outside of the image") };
        let entries = image.get(table.clone()).ok_or_else(outside)?;
        let mut functions = Vec::new();
        for entry in entries.as_chunks().0 {
            let [begin, end, info] = runtime_function(entry);
            let reader = Reader { image, function: begin };
            if begin >= end {
                return Err(reader.bad(format!("it ends at {end:#x}")));
            }
            let mut function = Function { rvas: begin..end, frame: None, undo: Vec::new() };
            reader.collect(info, &mut function)?;
            functions.push(function);
        }
        functions.sort_by_key(|function| function.rvas.start);
        Ok(Self(functions))
    }

    /// Where each is, in an image at `base`.
    pub(super) fn ranges(&self, base: u64) -> impl Iterator<Item = Range<u64>> {
        let address = move |rva: u32| base + u64::from(rva);
        self.0.iter().map(move |function| address(function.rvas.start)..address(function.rvas.end))
    }

    /// The function that this is a part of.
    pub(super) fn containing(&self, rva: u32) -> Option<&Function> {
        let after = self.0.partition_point(|function| function.rvas.start <= rva);
        self.0[..after].last().filter(|function| function.rvas.contains(&rva))
    }
}

/// The three words of an entry.
fn runtime_function(entry: &[u8; 12]) -> [u32; 3] {
    let word = |index: usize| {
        let at = index * 4;
        u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
    };
    [word(0), word(1), word(2)]
}

/// `UNW_FLAG_CHAININFO`.
const CHAINED: u8 = 4;

/// More parts than that in one function's chain are a loop.
const LONGEST_CHAIN: usize = 32;

impl Reader<'_> {
    /// Adds what undoes the prolog, and that of each entry it is chained to.
    fn collect(&self, mut info: u32, function: &mut Function) -> Result<(), BadTable> {
        for _ in 0..LONGEST_CHAIN {
            let [header, _prolog, count, frame] = self.bytes(info as usize)?;
            let (version, flags) = (header & 7, header >> 3);
            if version != 1 {
                return Err(self.bad(format!("unwind information of version {version}")));
            }
            if frame & 15 != 0 {
                function.frame = Some((frame & 15, u32::from(frame >> 4) * 16));
            }
            let codes = info as usize + 4;
            self.undo(codes, usize::from(count), &mut function.undo)?;
            if flags & CHAINED == 0 {
                return Ok(());
            }
            let parent = codes + usize::from(count).next_multiple_of(2) * 2;
            [_, _, info] = runtime_function(&self.bytes(parent)?);
        }
        Err(self.bad(format!("a chain of more than {LONGEST_CHAIN} parts")))
    }

    /// Reads the codes, which come in the order in which they are undone.
    fn undo(&self, codes: usize, count: usize, undo: &mut Vec<Undo>) -> Result<(), BadTable> {
        let mut next = 0;
        while next < count {
            let at = codes + next * 2;
            let [_offset, code] = self.bytes(at)?;
            let (operation, info) = (code & 15, code >> 4);
            let short = || self.bytes(at + 2).map(|bytes| u32::from(u16::from_le_bytes(bytes)));
            let long = || self.bytes(at + 2).map(u32::from_le_bytes);
            let (step, slots) = match (operation, info) {
                (0, register) => (Some(Undo::Pop(register)), 1),
                (1, 0) => (Some(Undo::Free(short()? * 8)), 2),
                (1, 1) => (Some(Undo::Free(long()?)), 3),
                (2, info) => (Some(Undo::Free(u32::from(info) * 8 + 8)), 1),
                (3, _) => (Some(Undo::FromFrame), 1),
                (4, register) => (Some(Undo::Restore(register, short()? * 8)), 2),
                (5, register) => (Some(Undo::Restore(register, long()?)), 3),
                // XMM registers: nothing is found by them.
                (8, _) => (None, 2),
                (9, _) => (None, 3),
                _ => return Err(self.bad(format!("unwind code {code:#x}"))),
            };
            undo.extend(step);
            next += slots;
        }
        Ok(())
    }

    fn bytes<const N: usize>(&self, rva: usize) -> Result<[u8; N], BadTable> {
        let bytes = self.image.get(rva..).and_then(<[u8]>::first_chunk).copied();
        bytes.ok_or_else(|| self.bad(format!("unwind information at {rva:#x}, outside of the image")))
    }

    fn bad(&self, what: String) -> BadTable {
        BadTable { function: self.function, what }
    }
}

impl Function {
    /// Undoes the prolog, from the registers at a call in the function. The return address.
    fn leave(&self, registers: &mut Registers) -> Option<u64> {
        let base = match self.frame {
            Some((register, above)) => registers.numbered(register).wrapping_sub(above.into()),
            None => registers.rsp,
        };
        for &step in &self.undo {
            match step {
                Undo::Pop(register) => *registers.numbered_mut(register) = pop(registers)?,
                Undo::Free(size) => registers.rsp = registers.rsp.wrapping_add(size.into()),
                Undo::FromFrame => registers.rsp = base,
                Undo::Restore(register, offset) => {
                    *registers.numbered_mut(register) = stack::read(base.wrapping_add(offset.into()))?;
                }
            }
        }
        pop(registers)
    }
}

fn pop(registers: &mut Registers) -> Option<u64> {
    let word = stack::read(registers.rsp)?;
    registers.rsp += 8;
    Some(word)
}

/// The return addresses of a call's frames, the innermost first.
///
/// The registers are those at the first instruction of a function that has been called, so `rsp` points to a return
/// address. The walk must end at the call's own one, which is not among the frames, and leave `rsp` at `top`.
pub(super) fn frames(
    images: &[Rc<Loaded>],
    mut registers: Registers,
    top: u64,
) -> Result<Vec<u64>, UnwindError> {
    let place = |address| image::place(images, address);
    let mut frames = Vec::new();
    let mut next = pop(&mut registers);
    loop {
        let from = || frames.last().map_or_else(|| "the call of an import".to_owned(), |&rip| place(rip));
        let Some(rip) = next else {
            return Err(UnwindError::OffTheStack { place: from(), rsp: registers.rsp });
        };
        if rip == trampoline::returned() && registers.rsp == top {
            return Ok(frames);
        }
        // A return address may be the next function's first instruction, when a call is the last of its own.
        let known = images.iter().find_map(|image| Some((image, image.rva(rip.wrapping_sub(1))?)));
        let (image, rva) = known.ok_or_else(|| UnwindError::Astray { place: from(), rip })?;
        let function = image.functions().containing(rva);
        next =
            function.ok_or_else(|| UnwindError::NoInformation { place: place(rip) })?.leave(&mut registers);
        frames.push(rip);
    }
}

/// Why the kernel could not unwind. Each names the place where the walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnwindError {
    /// A function has called another, so it has a frame; but .pdata does not know it.
    NoInformation {
        /// The return address in it.
        place: String,
    },
    /// The stack does not look as the function's prolog, by .pdata, has made it.
    OffTheStack {
        /// The return address in the function.
        place: String,
        /// The stack pointer after it.
        rsp: u64,
    },
    /// A return address is in no image.
    Astray {
        /// Where the address was found: the function above.
        place: String,
        /// The address.
        rip: u64,
    },
}

impl fmt::Display for UnwindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInformation { place } => {
                write!(f, "{place} makes a call, but its function has no unwind information")
            }
            Self::OffTheStack { place, rsp } => {
                write!(f, "unwinding {place} leads to rsp = {rsp:#x}, which is not where its frame ends")
            }
            Self::Astray { place, rip } => write!(f, "unwinding {place} leads to {rip:#x}, which is no code"),
        }
    }
}

impl Error for UnwindError {}
