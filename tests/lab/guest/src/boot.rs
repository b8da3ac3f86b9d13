//! From the first instruction to Rust.
//!
//! Xen begins a PVH guest at the address of an ELF note: 32 bits, flat segments, no paging, interrupts off, and EBX the
//! address of `struct hvm_start_info`, which nobody reads here. What a 64-bit program needs is little more: 4 GiB of
//! memory at their own addresses, four segments, and a stack.
//!
//! Source: `docs/misc/pvh.pandoc`; `xen/include/public/elfnote.h`, `XEN_ELFNOTE_PHYS32_ENTRY`.
#![expect(unsafe_code, reason = "before the first line of Rust there is assembler")]

use core::arch::global_asm;

use crate::{interrupts::CODE, life};

/// Bytes of the stack.
const STACK: usize = 256 * 1024;

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .align 4
    .long 4, 4, 18              /* the length of the name, that of the address, XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long pvh_start

    .section .bss.boot, "aw", @nobits
    .align 4096
    boot_pml4: .skip 4096
    boot_pdpt: .skip 4096
    boot_pd: .skip 4 * 4096     /* 2048 pages of 2 MiB */
    .align 16
    boot_stack: .skip {stack}
    boot_stack_end:

    .section .rodata.boot, "a"
    .align 8
    boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    /* code, 64 bits */
    .quad 0x00cf93000000ffff    /* data */
    boot_gdt_end:
    boot_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt

    .section .text.boot, "ax"
    .code32
    .globl pvh_start
    pvh_start:
    cld
    cli
    mov esp, offset boot_stack_end

    mov edi, offset boot_pd
    mov eax, 0x83               /* present, writable, large */
    mov ecx, 2048
    2:
    mov [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 0x200000
    add edi, 8
    loop 2b
    mov edi, offset boot_pdpt
    mov eax, offset boot_pd + 3
    mov ecx, 4
    2:
    mov [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 4096
    add edi, 8
    loop 2b
    mov eax, offset boot_pdpt + 3
    mov [boot_pml4], eax
    mov eax, offset boot_pml4
    mov cr3, eax

    mov eax, cr4
    or eax, 0x20                /* PAE */
    mov cr4, eax
    mov ecx, 0xc0000080         /* EFER */
    rdmsr
    or eax, 0x100               /* LME */
    wrmsr
    mov eax, cr0
    or eax, 0x80010001          /* PG, WP, PE */
    mov cr0, eax
    lgdt [boot_gdtr]
    push {code}
    mov eax, offset boot_64
    push eax
    retf

    .code64
    boot_64:
    xor eax, eax
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov eax, 16
    mov ss, ax
    mov rsp, offset boot_stack_end
    xor ebp, ebp
    call {begin}
    ud2
    "#,
    stack = const STACK,
    code = const CODE,
    begin = sym enter,
);

/// The first line of Rust, on the boot stack.
extern "C" fn enter() -> ! {
    life::begin()
}
