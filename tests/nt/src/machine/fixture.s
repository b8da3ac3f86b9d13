// A driver image, written by hand: no compiler decides what is in it. `fixture.rs` tells how tests reach it.
//
// In the file and in memory everything is at the same offset. Each function begins with a comment: what it does with
// its arguments (rcx, rdx, r8, r9) and what it returns.

// A label that tests can name.
.macro named name
    \name:
    .pushsection .rodata.nt_sim_fixture_names, "a", @progbits
    .asciz "\name"
    .long \name - nt_sim_fixture
    .popsection
.endm
// An entry of .pdata; a function ends at the label `NAME.end`.
.macro entry name, info
    .long \name - nt_sim_fixture, \name\().end - nt_sim_fixture, \info - nt_sim_fixture
.endm

.pushsection .rodata.nt_sim_fixture_names, "a", @progbits
.globl nt_sim_fixture_names
nt_sim_fixture_names:
.popsection

.pushsection .rodata.nt_sim_fixture, "a", @progbits
.balign 4096
.globl nt_sim_fixture
nt_sim_fixture:

// ---- headers
.ascii "MZ"
.zero 58
.long 64                        // the offset of what follows
.ascii "PE\0\0"
named header.machine
.short 0x8664, 6                // x86-64, sections
.zero 12
.short 240, 0x22                // size of the optional header; executable, large addresses
.short 0x20b                    // PE32+
.zero 14
.long add - nt_sim_fixture      // entry point
.long 0x1000
.quad {preferred}
.long 0x1000, 0x1000            // alignments
.zero 16
.long nt_sim_fixture_end - nt_sim_fixture, 0x1000 // sizes: image, headers
.long 0
.short 1, 0                     // native
.zero 32
.long 0, 16                     // directories:
.quad 0                         // exports
.long imports - nt_sim_fixture, imports.end - imports
.quad 0                         // resources
.long pdata - nt_sim_fixture, pdata.end - pdata
.quad 0                         // certificates
.long relocations - nt_sim_fixture, relocations.end - relocations
.zero 80
.ascii ".text\0\0\0"
named header.text
.long text.end - text, text - nt_sim_fixture, text.end - text, text - nt_sim_fixture, 0, 0, 0
named header.text.flags
.long 0x60000020
.ascii ".rdata\0\0"
.long rdata.end - rdata, rdata - nt_sim_fixture, rdata.end - rdata, rdata - nt_sim_fixture, 0, 0, 0, 0x40000040
.ascii ".data\0\0\0"
.long data.end - data, data - nt_sim_fixture, data.end - data, data - nt_sim_fixture, 0, 0, 0, 0xc0000040
.ascii "INIT\0\0\0\0"
.long init.end - init, init - nt_sim_fixture, init.end - init, init - nt_sim_fixture, 0, 0, 0, 0x62000020
.ascii ".pdata\0\0"
.long pdata.end - pdata, pdata - nt_sim_fixture, pdata.end - pdata, pdata - nt_sim_fixture, 0, 0, 0, 0x40000040
.ascii ".reloc\0\0"
.long relocations.end - relocations, relocations - nt_sim_fixture, relocations.end - relocations
.long relocations - nt_sim_fixture, 0, 0, 0, 0x42000040

// ---- code: first functions without unwind information
.balign 4096
text:
named add                       // the sum of both
    lea rax, [rcx + rdx]
    ret
named relocated                 // the address of `counter`, as relocated
    mov rax, [rip + pointer]
    ret
named read                      // the word there
    mov rax, [rcx]
    ret
named write                     // stores the second there
    mov [rcx], rdx
    ret
named reads_gs                  // gs:[188h]
    mov rax, gs:[0x188]
    ret
named clobbers_rbx
    xor ebx, ebx
    ret
named clobbers_xmm9
    xorps xmm9, xmm9
    ret
named spins                     // for ever
    jmp spins
named unbalanced                // returns one word further up
    pop rcx
    mov [rsp], rcx
    ret
named divides                   // by the second
    mov rax, rcx
    mov rcx, rdx
    xor edx, edx
    div rcx
    ret
named steps                     // sets the trap flag
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    ret
named gives_up
    ud2

named asks_misaligned
    sub rsp, 32
    call [rip + Ask]
    int3
named asks_elsewhere            // on the stack that ends there
    mov rsp, rcx
    call [rip + Ask]
    int3
named asks_without_information  // as a function with a frame must not
    sub rsp, 40
    call [rip + Ask]
    add rsp, 40
    ret

// ---- traps
named cpuid                     // leaf, subleaf; the four registers go to `scratch`
    mov r8, rbx
    mov eax, ecx
    mov ecx, edx
    cpuid
    mov [rip + scratch], eax
    mov [rip + scratch + 4], ebx
    mov [rip + scratch + 8], ecx
    mov [rip + scratch + 12], edx
    mov rbx, r8
    ret
named vmcall                    // with that number
    mov eax, ecx
    vmcall
    ret
named vmmcall
    mov eax, ecx
    vmmcall
    ret
named rdmsr                     // the register's value
    rdmsr
    shl rdx, 32
    or rax, rdx
    ret
named wrmsr                     // stores the second in the register
    mov eax, edx
    shr rdx, 32
    wrmsr
    ret
named in_byte                   // from port 60h, in a register full of ones
    mov rax, -1
    in al, 0x60
    ret
named in_word                   // from a port
    mov rdx, rcx
    mov rax, -1
    in ax, dx
    ret
named in_long
    mov rdx, rcx
    mov rax, -1
    in eax, dx
    ret
named out_byte                  // to port 80h, the lowest byte of the argument
    mov rax, rcx
    out 0x80, al
    ret
named out_long                  // to a port, the second
    mov rax, rdx
    mov rdx, rcx
    out dx, eax
    ret
named read_cr8
    mov r10, cr8
    mov rax, r10
    ret
named write_cr8
    mov cr8, r9
    ret
named interrupts                // three traps, no value
    cli
    sti
    hlt
    ret
named rdtsc
    rdtsc
    shl rdx, 32
    or rax, rdx
    ret
named rdtscp                    // the counter, plus the processor's number
    rdtscp
    shl rdx, 32
    or rax, rdx
    add rax, rcx
    ret
named xgetbv                    // the register's value
    xgetbv
    shl rdx, 32
    or rax, rdx
    ret
named breaks                    // 5, after a breakpoint
    int3
    mov eax, 5
    ret
named fails_fast                // with that code
    int 0x29
    ret
named flushes_caches
    wbinvd
    ret
// Each of these would reach the host.
.macro forbidden name, operand
    named \name
    \name \operand
    ret
.endm
forbidden rdrand, rax
forbidden rdseed, rax
forbidden rdpid, rax
forbidden wrfsbase, rax
forbidden wrgsbase, rax
named keeps_flags               // sets carry, traps; the flags
    stc
    cli
    pushfq
    pop rax
    ret
named atomics                   // adds to `counter`, exchanges `other`; both old values, the latter times 100
    mov rax, rcx
    lock xadd [rip + counter], rax
    xchg [rip + other], rdx
    imul rdx, rdx, 100
    add rax, rdx
    ret
named locked_read               // an atomic operation on that address
    lock or qword ptr [rcx], 0
    ret

// ---- functions with frames
.balign 16, 0xcc
named asks                      // passes twelve arguments, 1 to 12; what it is told
    sub rsp, 104
    .irp number, 5, 6, 7, 8, 9, 10, 11, 12
    mov qword ptr [rsp + 8 * \number - 8], \number
    .endr
    mov ecx, 1
    mov edx, 2
    mov r8d, 3
    mov r9d, 4
    call [rip + Ask]
    add rsp, 104
    ret
asks.end:
named asks_then_adds            // R10 and the low half of XMM3
    sub rsp, 40
    pcmpeqd xmm3, xmm3
    call [rip + Ask]
    movq rax, xmm3
    add rax, r10
    add rsp, 40
    ret
asks_then_adds.end:
named asks_by_ordinal
    sub rsp, 40
    call [rip + third]
    add rsp, 40
    ret
asks_by_ordinal.end:
named keeps_xmm                 // calls and traps; ffffh if XMM6 to XMM15 are as before
    sub rsp, 200
    .irp number, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movups [rsp + 16 * \number - 64], xmm\number
    .endr
    .irp number, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movaps xmm\number, [rip + pattern + 16 * \number]
    .endr
    call [rip + Ask]
    movaps xmm0, [rip + pattern]
    cli
    pcmpeqb xmm0, [rip + pattern]
    pmovmskb eax, xmm0
    .irp number, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    pcmpeqb xmm\number, [rip + pattern + 16 * \number]
    pmovmskb ecx, xmm\number
    and eax, ecx
    movups xmm\number, [rsp + 16 * \number - 64]
    .endr
    add rsp, 200
    ret
keeps_xmm.end:
named calls                     // calls its argument
    sub rsp, 40
    call rcx
    add rsp, 40
    ret
calls.end:
named recurses                  // for ever, a page at a time
    sub rsp, 4088
    call recurses
    add rsp, 4088
    ret
recurses.end:
named probes                    // a frame of so many bytes, by __chkstk; its lowest word, which it has cleared
    mov rax, rcx
    call [rip + __chkstk]
    mov r10, rsp
    sub rsp, rax
    mov qword ptr [rsp], 0
    mov rax, [rsp]
    mov rsp, r10
    ret
probes.end:
named moves                     // memmove
    sub rsp, 40
    call [rip + memmove]
    add rsp, 40
    ret
moves.end:
named sets                      // memset
    sub rsp, 40
    call [rip + memset]
    add rsp, 40
    ret
sets.end:
named compares                  // memcmp
    sub rsp, 40
    call [rip + memcmp]
    add rsp, 40
    ret
compares.end:

// ---- a chain of calls to unwind, of every shape of frame
named outermost                 // pushes, and a small frame
    push rbx
    sub rsp, 32
    call framed.first
named outermost.return
    add rsp, 32
    pop rbx
    ret
outermost.end:
// A frame register, below which the stack grows.
.macro framed name, callee
    \name:
    push rbp
    sub rsp, 48
    lea rbp, [rsp + 32]
    sub rsp, 64
    call \callee
    named \name\().return
    lea rsp, [rbp + 16]
    pop rbp
    ret
    \name\().end:
.endm
// A large frame; saves the frame register, and changes it.
.macro large name, callee
    \name:
    sub rsp, 200
    mov [rsp + 192], rbp
    xor ebp, ebp
    call \callee
    named \name\().return
    mov rbp, [rsp + 192]
    add rsp, 200
    ret
    \name\().end:
.endm
framed framed.first, large.near
large large.near, framed.second
framed framed.second, large.far
large large.far, deepest
deepest:                        // in two parts; the second is chained to the first
    push rsi
    sub rsp, 32
    jmp deepest.rest
deepest.end:
deepest.rest:
    sub rsp, 16
    call [rip + Ask]
named deepest.return
    add rsp, 48
    pop rsi
    ret
deepest.rest.end:
named lies                      // has a frame of 40 bytes, and says 32, where its return address is, too
    sub rsp, 40
    mov rax, [rsp + 40]
    mov [rsp + 32], rax
    call [rip + Ask]
    add rsp, 40
    ret
lies.end:
named exaggerates               // has a frame of 40 bytes, and says 4088
    sub rsp, 40
    call [rip + Ask]
    add rsp, 40
    ret
exaggerates.end:
named calls_last                // ends with a call, so that the return address is in the next function
    sub rsp, 40
    call [rip + Ask]
calls_last.end:
named after
    sub rsp, 72
    call [rip + Ask]
    add rsp, 72
    ret
after.end:
forbidden syscall
text.end:

// ---- constants
.balign 4096
rdata:
pattern:
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    .quad 0x0101010101010101 * (\number + 1), 0x1010101010101010 + \number
    .endr
imports:
    .long nt.names - nt_sim_fixture, 0, 0, nt.name - nt_sim_fixture, nt.slots - nt_sim_fixture
    .long hal.names - nt_sim_fixture, 0, 0, hal.name - nt_sim_fixture, hal.slots - nt_sim_fixture
    .zero 20
imports.end:
nt.names:
    .quad name.Ask - nt_sim_fixture, name.chkstk - nt_sim_fixture, name.memmove - nt_sim_fixture
    .quad name.memset - nt_sim_fixture, name.memcmp - nt_sim_fixture, 0
hal.names:
    .quad 0x8000000000000003, 0
named slots
nt.slots:
    Ask: .quad 0
    __chkstk: .quad 0
    memmove: .quad 0
    memset: .quad 0
    memcmp: .quad 0
    .quad 0
hal.slots:
    third: .quad 0
    .quad 0
named slots.end
nt.name: .asciz "ntoskrnl.exe"
hal.name: .asciz "hal.dll"
name.Ask: .asciz "\0\0Ask"
name.chkstk: .asciz "\0\0__chkstk"
name.memmove: .asciz "\0\0memmove"
name.memset: .asciz "\0\0memset"
name.memcmp: .asciz "\0\0memcmp"
// Version and flags, length of the prolog, number of codes, frame register. Then the codes.
.balign 4
frame32: .byte 1, 4, 1, 0,      4, 0x32, 0, 0
frame40: .byte 1, 4, 1, 0,      4, 0x42, 0, 0
frame72: .byte 1, 4, 1, 0,      4, 0x82, 0, 0
frame104: .byte 1, 4, 1, 0,     4, 0xc2, 0, 0
// An allocation, and two of the registers, one near, one far.
info.keeps_xmm: .byte 1, 23, 7, 0,  23, 0x79, 48, 0, 0, 0,  15, 0x68, 2, 0,  7, 0x01, 25, 0, 0, 0
frame4088: .byte 1, 7, 2, 0,    7, 0x01, 0xff, 0x01
info.outermost: .byte 1, 5, 2, 0,   5, 0x32,  1, 0x30
info.framed: .byte 1, 10, 3, 0x25,  10, 0x03,  5, 0x52,  1, 0x50, 0, 0
info.near: .byte 1, 15, 4, 0,   15, 0x54, 24, 0,  7, 0x01, 25, 0
info.far: .byte 1, 15, 6, 0,    15, 0x55, 192, 0, 0, 0,  7, 0x11, 200, 0, 0, 0
named info.deepest
    .byte 1, 5, 2, 0,           5, 0x32,  1, 0x60
named info.chain.start
    .byte 0x21, 4, 1, 0,        4, 0x12, 0, 0
named info.chain
    entry deepest, info.deepest
rdata.end:

// ---- variables
.balign 4096
data:
named pointer
    .quad {preferred} + counter - nt_sim_fixture
named counter
    .quad 40
named other
    .quad 3
    .quad 0
.balign 16
named scratch
    .zero 256
data.end:

// ---- code that runs once
.balign 4096
init:
named initialises               // 1
    mov eax, 1
    ret
init.end:

// ---- functions with unwind information
.balign 4096
named pdata
    entry asks, frame104
    entry asks_by_ordinal, frame40
    entry asks_then_adds, frame40
    entry keeps_xmm, info.keeps_xmm
    entry calls, frame40
    entry recurses, frame4088
    entry moves, frame40
    entry sets, frame40
    entry compares, frame40
    entry outermost, info.outermost
    entry framed.first, info.framed
    entry large.near, info.near
    entry framed.second, info.framed
    entry large.far, info.far
    entry deepest, info.deepest
    entry deepest.rest, info.chain.start
    entry lies, frame32
    entry exaggerates, frame4088
    entry calls_last, frame40
    entry after, frame72
pdata.end:

.balign 4096
named relocations
    .long data - nt_sim_fixture, 12
named relocation
    .short 0xa000 + pointer - data, 0 // DIR64, padding
relocations.end:

.balign 4096
.globl nt_sim_fixture_end
nt_sim_fixture_end:
.popsection

.pushsection .rodata.nt_sim_fixture_names, "a", @progbits
.globl nt_sim_fixture_names_end
nt_sim_fixture_names_end:
.popsection
