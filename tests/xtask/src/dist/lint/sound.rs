//! A small image that keeps every rule, made field by field, for tests to take and break.

use object::{
    LittleEndian as LE,
    pe::{
        self, ImageDataDirectory, ImageDebugDirectory, ImageDosHeader, ImageImportDescriptor,
        ImageNtHeaders64, ImageRuntimeFunctionEntry, ImageSectionHeader,
    },
    pod,
};

use crate::dist::pe::Pe;

/// What it is called, without `.sys`.
pub(in crate::dist) const NAME: &str = "sound";

const NT_HEADERS: usize = 0x40;
const DIRECTORIES: usize = NT_HEADERS + size_of::<ImageNtHeaders64>();
const SECTION_HEADERS: usize =
    DIRECTORIES + pe::IMAGE_NUMBEROF_DIRECTORY_ENTRIES * size_of::<ImageDataDirectory>();

/// Name and characteristics of the sections, of which each has this much room in the file and a page in memory.
const SECTIONS: [(&[u8], u32); 6] = [
    (b".text", pe::IMAGE_SCN_CNT_CODE | pe::IMAGE_SCN_MEM_READ | pe::IMAGE_SCN_MEM_EXECUTE),
    (b".rdata", pe::IMAGE_SCN_CNT_INITIALIZED_DATA | pe::IMAGE_SCN_MEM_READ),
    (b".data", pe::IMAGE_SCN_CNT_INITIALIZED_DATA | pe::IMAGE_SCN_MEM_READ | pe::IMAGE_SCN_MEM_WRITE),
    (b".pdata", pe::IMAGE_SCN_CNT_INITIALIZED_DATA | pe::IMAGE_SCN_MEM_READ),
    (
        b"INIT",
        pe::IMAGE_SCN_CNT_CODE
            | pe::IMAGE_SCN_MEM_READ
            | pe::IMAGE_SCN_MEM_EXECUTE
            | pe::IMAGE_SCN_MEM_DISCARDABLE,
    ),
    (b".reloc", pe::IMAGE_SCN_CNT_INITIALIZED_DATA | pe::IMAGE_SCN_MEM_READ | pe::IMAGE_SCN_MEM_DISCARDABLE),
];
const PAGE: u32 = 0x1000;
const ROOM: u32 = 0x200;
const HEADERS: u32 = 0x400;

/// Where things are in the image.
pub(in crate::dist) const TEXT: u32 = PAGE;
pub(in crate::dist) const RDATA: u32 = 2 * PAGE;
pub(in crate::dist) const DATA: u32 = 3 * PAGE;
pub(in crate::dist) const PDATA: u32 = 4 * PAGE;
pub(in crate::dist) const INIT: u32 = 5 * PAGE;
pub(in crate::dist) const RELOC: u32 = 6 * PAGE;
const ADDRESSES: u32 = RDATA;
const NAMES: u32 = RDATA + 0x10;
const MODULES: u32 = RDATA + 0x20;
const MODULE: u32 = RDATA + 0x60;
const SYMBOL: u32 = RDATA + 0x80;
const DEBUG: u32 = RDATA + 0xa0;
const CODEVIEW: u32 = RDATA + 0xc0;
const UNWIND: u32 = RDATA + 0x100;

/// The image's file.
pub(in crate::dist) fn image() -> Vec<u8> {
    let mut bytes = vec![0; offset(RELOC) + usize_of(ROOM)];
    let dos: &mut ImageDosHeader = at(&mut bytes, 0);
    dos.e_magic.set(LE, pe::IMAGE_DOS_SIGNATURE);
    dos.e_lfanew.set(LE, 0x40);
    write_headers(&mut bytes);
    for (index, (name, characteristics)) in (0..).zip(SECTIONS) {
        let header = section(&mut bytes, index);
        header.name[..name.len()].copy_from_slice(name);
        header.virtual_size.set(LE, ROOM);
        header.virtual_address.set(LE, PAGE * (index + 1));
        header.size_of_raw_data.set(LE, ROOM);
        header.pointer_to_raw_data.set(LE, HEADERS + ROOM * index);
        header.characteristics.set(LE, characteristics);
    }
    write_imports(&mut bytes);
    write_symbols(&mut bytes);
    // Code is int3 where there is no function.
    for section in [TEXT, INIT] {
        put(&mut bytes, section, &[0xcc; ROOM as usize]);
    }
    // sub rsp, 28h; nop; add rsp, 28h; ret, with its unwind information.
    put(&mut bytes, TEXT, &[0x48, 0x83, 0xec, 0x28, 0x90, 0x48, 0x83, 0xc4, 0x28, 0xc3]);
    put(&mut bytes, UNWIND, &[1, 4, 1, 0, 4, 0x42]);
    let function: &mut ImageRuntimeFunctionEntry = at(&mut bytes, offset(PDATA));
    function.begin_address.set(LE, TEXT);
    function.end_address.set(LE, TEXT + 10);
    function.unwind_info_address_or_data.set(LE, UNWIND);
    put(&mut bytes, INIT, &[0xc3]);
    seal(&mut bytes);
    bytes
}

/// Corrects the checksum.
pub(in crate::dist) fn seal(bytes: &mut [u8]) {
    let checksum = Pe::parse(bytes).expect("it is an image").checksum();
    nt(bytes).optional_header.check_sum.set(LE, checksum);
}

pub(in crate::dist) fn nt(bytes: &mut [u8]) -> &mut ImageNtHeaders64 {
    at(bytes, NT_HEADERS)
}

pub(in crate::dist) fn section(bytes: &mut [u8], index: u32) -> &mut ImageSectionHeader {
    at(bytes, SECTION_HEADERS + usize_of(index) * size_of::<ImageSectionHeader>())
}

/// Lets a data directory refer to so many bytes at this address.
pub(in crate::dist) fn direct(bytes: &mut [u8], index: usize, address: u32, size: u32) {
    let directory: &mut ImageDataDirectory = at(bytes, DIRECTORIES + index * size_of::<ImageDataDirectory>());
    directory.virtual_address.set(LE, address);
    directory.size.set(LE, size);
}

/// Writes bytes at an address in the image.
pub(in crate::dist) fn put(bytes: &mut [u8], address: u32, content: &[u8]) {
    let offset = offset(address);
    bytes[offset..offset + content.len()].copy_from_slice(content);
}

/// Writes the name of the symbols' file.
pub(in crate::dist) fn name_symbols(bytes: &mut [u8], name: &str) {
    put(bytes, CODEVIEW, b"RSDS");
    put(bytes, CODEVIEW + 24, name.as_bytes());
    put(bytes, CODEVIEW + 24 + u32_of(name.len()), &[0]);
    let debug: &mut ImageDebugDirectory = at(bytes, offset(DEBUG));
    debug.size_of_data.set(LE, 24 + u32_of(name.len()) + 1);
}

fn write_headers(bytes: &mut [u8]) {
    let headers = nt(bytes);
    headers.signature.set(LE, pe::IMAGE_NT_SIGNATURE);
    let file = &mut headers.file_header;
    file.machine.set(LE, pe::IMAGE_FILE_MACHINE_AMD64);
    file.number_of_sections.set(LE, 6);
    file.size_of_optional_header.set(LE, 0xf0);
    file.characteristics.set(LE, pe::IMAGE_FILE_EXECUTABLE_IMAGE | pe::IMAGE_FILE_LARGE_ADDRESS_AWARE);
    let optional = &mut headers.optional_header;
    optional.magic.set(LE, pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC);
    optional.address_of_entry_point.set(LE, INIT);
    optional.image_base.set(LE, 0x1_4000_0000);
    optional.section_alignment.set(LE, PAGE);
    optional.file_alignment.set(LE, ROOM);
    optional.major_subsystem_version.set(LE, 10);
    optional.size_of_image.set(LE, RELOC + PAGE);
    optional.size_of_headers.set(LE, HEADERS);
    optional.subsystem.set(LE, pe::IMAGE_SUBSYSTEM_NATIVE);
    optional.dll_characteristics.set(
        LE,
        pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
            | pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA
            | pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT
            | pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
    );
    optional.number_of_rva_and_sizes.set(LE, 16);
    direct(bytes, pe::IMAGE_DIRECTORY_ENTRY_IMPORT, MODULES, 40);
    direct(bytes, pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION, PDATA, 12);
    direct(bytes, pe::IMAGE_DIRECTORY_ENTRY_BASERELOC, RELOC, 12);
    direct(bytes, pe::IMAGE_DIRECTORY_ENTRY_DEBUG, DEBUG, 28);
    direct(bytes, pe::IMAGE_DIRECTORY_ENTRY_IAT, ADDRESSES, 16);
}

fn write_imports(bytes: &mut [u8]) {
    for table in [ADDRESSES, NAMES] {
        put(bytes, table, &u64::from(SYMBOL).to_le_bytes());
    }
    put(bytes, MODULE, b"ntoskrnl.exe");
    put(bytes, SYMBOL + 2, b"DbgPrintEx");
    let module: &mut ImageImportDescriptor = at(bytes, offset(MODULES));
    module.original_first_thunk.set(LE, NAMES);
    module.name.set(LE, MODULE);
    module.first_thunk.set(LE, ADDRESSES);
}

fn write_symbols(bytes: &mut [u8]) {
    let debug: &mut ImageDebugDirectory = at(bytes, offset(DEBUG));
    debug.typ.set(LE, pe::IMAGE_DEBUG_TYPE_CODEVIEW);
    debug.address_of_raw_data.set(LE, CODEVIEW);
    debug.pointer_to_raw_data.set(LE, u32_of(offset(CODEVIEW)));
    name_symbols(bytes, &format!("{NAME}.pdb"));
}

/// Where an address of the image is in the file.
fn offset(address: u32) -> usize {
    usize_of(HEADERS + (address / PAGE - 1) * ROOM + address % PAGE)
}

fn at<T: pod::Pod>(bytes: &mut [u8], offset: usize) -> &mut T {
    pod::from_bytes_mut(&mut bytes[offset..]).expect("it is in there").0
}

fn usize_of(value: u32) -> usize {
    usize::try_from(value).expect("a host has 32 bits at least")
}

fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("the image is small")
}
