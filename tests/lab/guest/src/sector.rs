//! The first sector of an HVM guest's disk: from the BIOS to where a PVH guest begins.
//!
//! It is a section of the guest's file that is in none of its segments. The lab on the host takes it from there, and
//! writes into its table what it has put where (`tests/lab/src/disk.rs`); of itself, the sector knows the machine, and
//! nothing of the guest.
//!
//! It asks the disk's controller to put the guest where it belongs, by DMA: a BIOS would read word by word, each of
//! which the device model is asked for. The rest is as Xen's loader leaves it: 32 bits, flat segments, no paging, and
//! no interrupt controller of a PC's that interrupts.
//!
//! Sources: Intel, "82371FB (PIIX) and 82371SB (PIIX3)", 2.3.9 and 2.5 (PCI bus master IDE); ATA/ATAPI-6, 8.28 "READ
//! DMA".
#![expect(unsafe_code, reason = "the first that runs is assembler")]

use core::arch::global_asm;

global_asm!(
    r#"
    .section .boot_sector, "ax"
    .code16
    sector:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movb $0xff, %al             /* no interrupts of a timer that the BIOS has started */
    outb %al, $0x21
    outb %al, $0xa1
    lgdtl sector_table
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $sector_flat

    .code32
    sector_flat:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    cld

    movl $0x80000904, %eax      /* function 1 of device 1, the IDE controller: its command register; */
    movw $0xcf8, %dx
    outl %eax, %dx
    movw $0xcfc, %dx
    movb $5, %al                /* it has ports, and is a bus master */
    outb %al, %dx
    movl $0x80000920, %eax      /* and its fifth base address: */
    movw $0xcf8, %dx
    outl %eax, %dx
    movw $0xcfc, %dx
    inl %dx, %eax
    andb $0xf0, %al
    movzwl %ax, %ebx            /* the bus master's ports, for the first channel */

    2:                          /* a piece */
    movl sector_to, %eax
    movl %eax, sector_region
    leal 4(%ebx), %edx          /* where the table of regions is: there is one */
    movl $sector_region, %eax
    outl %eax, %dx
    leal 2(%ebx), %edx          /* what was before is forgotten */
    movb $6, %al
    outb %al, %dx
    movl %ebx, %edx             /* to memory */
    movb $8, %al
    outb %al, %dx

    movw $0x1f6, %dx            /* the first drive, by the number of a sector */
    movb $0xe0, %al
    outb %al, %dx
    movw $0x1f2, %dx
    movb ${piece} / 512, %al
    outb %al, %dx
    movl sector_first, %eax
    incl %edx
    outb %al, %dx
    shrl $8, %eax
    incl %edx
    outb %al, %dx
    shrl $8, %eax
    incl %edx
    outb %al, %dx
    movw $0x1f7, %dx            /* READ DMA */
    movb $0xc8, %al
    outb %al, %dx

    movl %ebx, %edx             /* go, */
    movb $9, %al
    outb %al, %dx
    leal 2(%ebx), %edx          /* until it is not active any more */
    3:
    inb %dx, %al
    testb $1, %al
    jnz 3b
    testb $2, %al
    jnz sector_fail
    movw $0x1f7, %dx
    inb %dx, %al
    testb $1, %al
    jnz sector_fail

    addl ${piece} / 512, sector_first
    addl ${piece}, sector_to
    decl sector_pieces
    jnz 2b

    movl sector_zeros, %edi
    movl sector_words, %ecx
    xorl %eax, %eax
    rep stosl
    jmpl *sector_entry

    sector_fail:                /* a line for the host, and a triple fault */
    movl $sector_message, %esi
    2:
    lodsb
    outb %al, $0xe9
    cmpb $10, %al
    jne 2b
    lidtl sector_segments
    int3

    sector_message:
    .ascii "lab 0.000 crash: the boot sector cannot read the disk\n"

    .balign 8
    sector_segments:
    .quad 0
    .quad 0x00cf9b000000ffff    /* code */
    .quad 0x00cf93000000ffff    /* data */
    sector_table:
    .word sector_table - sector_segments - 1
    .long sector_segments

    .balign 8
    sector_region:              /* where to; 64 KiB; and there is no other */
    .long 0
    .word 0, 0x8000

    .org 486                    /* what the host says: */
    sector_pieces: .long 0      /* so many pieces, */
    sector_first: .long 0       /* from this sector on, */
    sector_to: .long 0          /* go there; */
    sector_zeros: .long 0       /* from there on */
    sector_words: .long 0       /* so many words of four bytes are zeros; */
    sector_entry: .long 0       /* and there it begins */
    .word 0xaa55
    .code64
    "#,
    piece = const 64 * 1024,
    options(att_syntax),
);
