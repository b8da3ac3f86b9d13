//! A driver image, mapped as NT's loader maps it, but for the patches that it lists.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, error::Error, fmt, io, mem, ops::Range, path::PathBuf, rc::Rc};

use iced_x86::Instruction;

use super::{
    Machine,
    mapping::{Access, Mapping, PAGE},
    pe::Layout,
    scan::{self, CodeSection, Undecodable},
    symbols::Symbols,
    trampoline,
    unwind::{BadTable, Functions},
};
pub use super::{pe::Section, scan::Preempt, trampoline::Native};

/// Where the first image goes: far from what Linux maps of its own accord, and no image's preferred base, so that a
/// missing relocation shows.
pub const IMAGE_BASE: u64 = 0x5a00_0000_0000;

/// From one image's base to the next one's.
pub const IMAGE_STRIDE: u64 = 0x1_0000_0000;

/// How an image is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where: [`IMAGE_BASE`] plus a multiple of [`IMAGE_STRIDE`].
    pub base: u64,
    /// Where its code can be interrupted.
    pub preempt: Preempt,
    /// The file itself. If its `.pdb` is beside it, and `llvm-symbolizer` is installed, reports name functions.
    pub symbols: Option<PathBuf>,
}

/// What an import is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A call of it is a [`Yield::Export`](super::Yield::Export) with this index.
    Export(u32),
    /// A routine that runs without leaving.
    Native(Native),
}

/// A byte that differs from the file's, other than by relocation and the binding of imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where it is; HLT is there now.
    pub rva: u32,
    /// The file's byte.
    pub old: u8,
    /// The instruction that it begins.
    pub instruction: String,
}

/// An image in memory; unmapped when dropped, after which its code must not be entered.
#[derive(Debug)]
pub struct Image {
    loaded: Rc<Loaded>,
    machine: Machine,
}

/// What the machine needs to know of an image.
#[derive(Debug)]
pub(super) struct Loaded {
    name: String,
    base: u64,
    entry: u64,
    /// The image itself, without what was put behind it.
    size: u64,
    sections: Vec<Section>,
    patches: Vec<Patch>,
    sites: BTreeMap<u64, Site>,
    functions: Functions,
    symbols: Option<Symbols>,
    mapping: Mapping,
}

/// A patched instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) instruction: Instruction,
    /// Where it can be executed all the same.
    pub(super) out_of_line: Option<u64>,
}

impl Image {
    /// Maps a file. `bind` is asked once for each import, by module and symbol (`#7` for an ordinal).
    ///
    /// # Errors
    ///
    /// See [`LoadError`]. All imports that `bind` does not know are named at once.
    pub fn load(
        machine: &Machine,
        name: &str,
        bytes: &[u8],
        options: &LoadOptions,
        bind: &mut dyn FnMut(&str, &str) -> Option<Binding>,
    ) -> Result<Self, LoadError> {
        let mut layout = Layout::parse(bytes)?;
        layout.relocate(options.base)?;
        let thunks = bind_imports(&mut layout, options.base, bind)?;
        let loaded = Rc::new(Loaded::new(name, layout, thunks, options)?);
        machine.add(Rc::clone(&loaded));
        Ok(Self { loaded, machine: machine.clone() })
    }

    /// What it was called when it was loaded.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.loaded.name
    }

    /// The address of its entry point.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.loaded.entry
    }

    /// The addresses that are the image's.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.loaded.range()
    }

    /// Its parts, the headers first.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.loaded.sections
    }

    /// Every byte that differs from the file's, other than by relocation and the binding of imports.
    #[must_use]
    pub fn patches(&self) -> &[Patch] {
        &self.loaded.patches
    }

    /// `xenbus.sys+0x1a2b`, with the function's name where it is known.
    #[must_use]
    pub fn place(&self, address: u64) -> String {
        self.loaded.place(address)
    }

    /// Takes away the discardable sections, as NT does when `DriverEntry` has returned ("Writing a `DriverEntry` Routine",
    /// Microsoft Learn): their code does not run any more. That they are still read goes unnoticed.
    ///
    /// # Panics
    ///
    /// The system refuses.
    pub fn discard(&self) {
        for section in self.sections().iter().filter(|section| section.discardable) {
            let gone = Access { writable: false, executable: false };
            let done = self.loaded.mapping.protect(&section.pages(), gone);
            done.unwrap_or_else(|error| panic!("{} could not be taken away: {error}", section.name));
        }
    }

    /// Copies from the image.
    ///
    /// # Errors
    ///
    /// Not all of it is in the image.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), NotInImage> {
        let outside = NotInImage { address, length: buffer.len(), writable: false };
        self.loaded.read(address, buffer).ok_or(outside)
    }

    /// Copies to a section that driver code could write to.
    ///
    /// # Errors
    ///
    /// Not all of it is in such a section.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), NotInImage> {
        let is_there =
            |section: &Section| section.writable && is_within(&section.range, address, bytes.len());
        if !self.sections().iter().any(is_there) {
            return Err(NotInImage { address, length: bytes.len(), writable: true });
        }
        self.loaded.mapping.write(address, bytes);
        Ok(())
    }
}

fn is_within(range: &Range<u64>, address: u64, length: usize) -> bool {
    range.start <= address && address.checked_add(length as u64).is_some_and(|end| end <= range.end)
}

impl Drop for Image {
    fn drop(&mut self) {
        self.machine.remove(&self.loaded);
    }
}

/// The address, in words, if it is one of these images'.
pub(super) fn place(images: &[Rc<Loaded>], address: u64) -> String {
    match images.iter().find(|image| image.range().contains(&address)) {
        Some(image) => image.place(address),
        None => format!("{address:#x}"),
    }
}

/// The bytes of a thunk: `mov eax, index; mov r11, export; jmp r11`. Neither register carries an argument.
fn thunk(index: u32) -> [u8; THUNK] {
    let mut code = [scan::HALT; THUNK];
    code[0] = 0xb8;
    code[1..5].copy_from_slice(&index.to_le_bytes());
    code[5..7].copy_from_slice(&[0x49, 0xbb]);
    code[7..15].copy_from_slice(&trampoline::export().to_le_bytes());
    code[15..18].copy_from_slice(&[0x41, 0xff, 0xe3]);
    code
}

const THUNK: usize = 32;

/// Fills the slots of all imports. The thunks that go behind the image.
fn bind_imports(
    layout: &mut Layout<'_>,
    base: u64,
    bind: &mut dyn FnMut(&str, &str) -> Option<Binding>,
) -> Result<Vec<u8>, LoadError> {
    let first_thunk = base + behind(&layout.memory);
    let (mut thunks, mut unknown) = (Vec::new(), Vec::new());
    for slot in layout.imports()? {
        let address = match bind(&slot.module, &slot.symbol) {
            Some(Binding::Native(native)) => native.address(),
            Some(Binding::Export(index)) => {
                let address = first_thunk + thunks.len() as u64;
                thunks.extend(thunk(index));
                address
            }
            None => {
                unknown.push((slot.module, slot.symbol));
                continue;
            }
        };
        layout.bind(&slot, address)?;
    }
    if unknown.is_empty() { Ok(thunks) } else { Err(LoadError::UnknownImports(unknown)) }
}

/// Where the first page after the image begins.
fn behind(image: &[u8]) -> u64 {
    (image.len() as u64).next_multiple_of(PAGE)
}

impl Loaded {
    fn new(
        name: &str,
        layout: Layout<'_>,
        thunks: Vec<u8>,
        options: &LoadOptions,
    ) -> Result<Self, LoadError> {
        let base = options.base;
        let symbols = options.symbols.clone().map(Symbols::new);
        let functions = Functions::parse(&layout.memory, layout.exception_directory())?;
        let (sections, entry) = (layout.sections(base), base + u64::from(layout.entry()));
        let size = layout.memory.len() as u64;
        let mut found = Vec::new();
        for section in sections.iter().filter(|section| section.executable) {
            let code = code_section(&layout.memory, base, section)?;
            let instructions = code.scan(functions.ranges(base), options.preempt);
            found.extend(instructions.map_err(|at| LoadError::undecodable(&at, base, symbols.as_ref()))?);
        }
        let mut memory = layout.memory;
        memory.resize(behind(&memory) as usize, 0);
        let added = base + memory.len() as u64;
        memory.extend(thunks);
        let (patches, sites) = patch(&mut memory, base, &found)?;
        let map = || {
            let mapping = Mapping::new(base, &memory)?;
            protect(&mapping, &sections, added)?;
            Ok(mapping)
        };
        let mapping = map().map_err(|error| LoadError::Memory { base, error })?;
        let name = name.to_owned();
        Ok(Self { name, base, entry, size, sections, patches, sites, functions, symbols, mapping })
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.base..self.base + self.size
    }

    pub(super) fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The address's rva, if it is the image's.
    pub(super) fn rva(&self, address: u64) -> Option<u32> {
        self.range().contains(&address).then(|| (address - self.base) as u32)
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        is_within(&self.range(), address, buffer.len()).then(|| self.mapping.read(address, buffer))
    }

    /// The instruction there as it is in the file, and how to go on after a trap at it.
    pub(super) fn site(&self, address: u64) -> Option<Site> {
        self.sites.get(&address).copied().or_else(|| {
            let left = self.range().end.checked_sub(address)?.min(scan::LONGEST as u64);
            let mut bytes = [0; scan::LONGEST];
            let bytes = &mut bytes[..left as usize];
            self.read(address, bytes)?;
            Some(Site { instruction: scan::decode(bytes, address), out_of_line: None })
        })
    }

    /// Where an instruction that runs out of line is at home.
    pub(super) fn home(&self, address: u64) -> Option<u64> {
        if !(self.range().end..self.mapping.range().end).contains(&address) {
            return None;
        }
        let copies = self.sites.values().filter_map(|site| Some((site.out_of_line?, site.instruction.ip())));
        copies.filter(|&(copy, _)| copy <= address).max().map(|(_, home)| home)
    }

    pub(super) fn place(&self, address: u64) -> String {
        let Some(rva) = self.rva(address) else { return format!("{address:#x}, outside of {}", self.name) };
        let function = self.symbols.as_ref().and_then(|symbols| symbols.function(rva));
        let function = function.map_or_else(String::new, |function| format!(" ({function})"));
        format!("{}+{rva:#x}{function}", self.name)
    }
}

fn code_section<'image>(
    image: &'image [u8],
    base: u64,
    section: &Section,
) -> Result<CodeSection<'image>, LoadError> {
    if section.writable {
        return Err(LoadError::WritableCode { section: section.name.clone() });
    }
    let rvas = (section.range.start - base) as usize..(section.range.end - base) as usize;
    match image.get(rvas) {
        Some(bytes) => Ok(CodeSection { bytes, at: section.range.start }),
        None => Err(LoadError::Malformed(format!("the section {} is not within the image", section.name))),
    }
}

/// Replaces the first byte of each of these instructions; a copy of an atomic one goes behind the image.
fn patch(
    memory: &mut Vec<u8>,
    base: u64,
    found: &[Instruction],
) -> Result<(Vec<Patch>, BTreeMap<u64, Site>), LoadError> {
    let (mut patches, mut sites) = (Vec::new(), BTreeMap::new());
    for &instruction in found {
        let out_of_line = scan::is_atomic(&instruction).then_some(base + memory.len() as u64);
        if let Some(at) = out_of_line {
            memory.extend(scan::out_of_line(instruction, at)?);
        }
        let rva = (instruction.ip() - base) as u32;
        let old = mem::replace(&mut memory[rva as usize], scan::HALT);
        patches.push(Patch { rva, old, instruction: instruction.to_string() });
        sites.insert(instruction.ip(), Site { instruction, out_of_line });
    }
    Ok((patches, sites))
}

/// Takes from each page what its section does not allow. What was added behind the image is code.
fn protect(mapping: &Mapping, sections: &[Section], added: u64) -> io::Result<()> {
    for section in sections {
        let &Section { writable, executable, .. } = section;
        mapping.protect(&section.pages(), Access { writable, executable })?;
    }
    mapping.protect(&(added..mapping.range().end), Access { writable: false, executable: true })
}

/// Not all of some bytes is in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInImage {
    address: u64,
    length: usize,
    writable: bool,
}

impl fmt::Display for NotInImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.writable { "a writable section of the image" } else { "the image" };
        write!(f, "{} bytes at {:#x} are not within {what}", self.length, self.address)
    }
}

impl Error for NotInImage {}

/// Why a file could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// It is no PE file for x86-64, or a broken one.
    Malformed(String),
    /// Nobody knows these imports: module and symbol.
    UnknownImports(Vec<(String, String)>),
    /// A function's code contains something that is no instruction, so that nobody can say what must be patched.
    Undecodable {
        /// The function's name, if it is known.
        function: Option<String>,
        /// Where the function is, or the gap between functions.
        within: Range<u32>,
        /// Where its first undecodable byte is.
        rva: u32,
    },
    /// A section is both writable and executable: what was patched could change.
    WritableCode {
        /// Its name.
        section: String,
    },
    /// The addresses could not be had.
    Memory {
        /// Where the image was to go.
        base: u64,
        /// What the system said.
        error: io::Error,
    },
}

impl LoadError {
    fn undecodable(found: &Undecodable, base: u64, symbols: Option<&Symbols>) -> Self {
        let rva = |address: u64| (address - base) as u32;
        Self::Undecodable {
            function: symbols.and_then(|symbols| symbols.function(rva(found.within.start))),
            within: rva(found.within.start)..rva(found.within.end),
            rva: rva(found.at),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "this is no driver image: {what}"),
            Self::UnknownImports(imports) => {
                f.write_str("nobody knows these imports; give each a row in the table of exports:")?;
                imports.iter().try_for_each(|(module, symbol)| write!(f, " {module}!{symbol}"))
            }
            Self::Undecodable { function, within, rva } => write!(
                f,
                "the function {} at {within:#x?} cannot be decoded from {rva:#x} on; keep tables out of code",
                function.as_deref().unwrap_or("(its name is not known)"),
            ),
            Self::WritableCode { section } => {
                write!(f, "the section {section} is both writable and executable; link it with one of both")
            }
            Self::Memory { base, error } => {
                write!(f, "no image can be mapped at {base:#x}: {error}; is another one there?")
            }
        }
    }
}

impl Error for LoadError {}

impl From<object::Error> for LoadError {
    fn from(error: object::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<BadTable> for LoadError {
    fn from(BadTable { function, what }: BadTable) -> Self {
        Self::Malformed(format!("the function at {function:#x}: {what}"))
    }
}

impl From<iced_x86::IcedError> for LoadError {
    fn from(error: iced_x86::IcedError) -> Self {
        Self::Malformed(format!("an atomic operation cannot be moved: {error}"))
    }
}
