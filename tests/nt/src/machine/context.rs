//! The state of the processor that a piece of driver code owns, and what the calling convention says of it.
#![forbid(unsafe_code)]

/// The general registers. Their order is the one in which the way into driver code pops them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "registers are named by the processor's manual")]
pub struct Registers {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub rip: u64,
}

impl Registers {
    /// The general register of that number, as instructions and unwind codes count them.
    pub(super) fn numbered_mut(&mut self, number: u8) -> &mut u64 {
        match number {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            15 => &mut self.r15,
            _ => unreachable!("there are 16 general registers, and this is number {number}"),
        }
    }

    pub(super) fn numbered(mut self, number: u8) -> u64 {
        *self.numbered_mut(number)
    }
}

/// All that a suspended piece of driver code is.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub(super) struct Context {
    pub(super) registers: Registers,
    pub(super) extended: Extended,
    /// Written by the signal handler.
    pub(super) interruption: Interruption,
}

/// Why the processor stopped.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Interruption {
    /// The exception's vector.
    pub(super) vector: u8,
    /// Its error code.
    pub(super) error: u64,
    /// For a page fault, the address (CR2).
    pub(super) address: u64,
}

/// What `fxsave64` stores. The upper halves of the YMM registers are not in it: a driver that wants them asks for
/// `KeSaveExtendedProcessorState` first, which no image of ours imports.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(super) struct Extended {
    x87_control: u16,
    _x87_status: [u8; 22],
    mxcsr: u32,
    _mxcsr_mask: u32,
    _x87: [u8; 128],
    xmm: [u128; 16],
    _reserved: [u8; 96],
}

/// RFLAGS of a function that begins: interrupts on, everything else clear.
pub(super) const FLAGS: u64 = 0x202;

/// What a register holds that nobody has set, plus its number: no address, so that whoever follows it falls.
const SCRAMBLED: u64 = 0x6b6b_6b6b_6b6b_6b00;

const SCRAMBLED_XMM: u128 = SCRAMBLED as u128;

/// The general registers that a function may change without saying so ("x64 calling convention", Microsoft Learn), but
/// for `rax`, its result. XMM0 to XMM5 are the others.
const VOLATILE: [u8; 6] = [1, 2, 8, 9, 10, 11];
const VOLATILE_XMM: usize = 6;

const RSP: u8 = 4;

/// The general registers that it must preserve, XMM6 to XMM15 being the others.
const NONVOLATILE: [(u8, &str); 9] = [
    (3, "rbx"),
    (RSP, "rsp"),
    (5, "rbp"),
    (6, "rsi"),
    (7, "rdi"),
    (12, "r12"),
    (13, "r13"),
    (14, "r14"),
    (15, "r15"),
];
const NONVOLATILE_XMM: [&str; 10] =
    ["xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"];

impl Context {
    /// The state of a processor at the first instruction of a function.
    pub(super) fn new(function: u64, rsp: u64, [rcx, rdx, r8, r9]: [u64; 4]) -> Self {
        let mut registers = Registers::default();
        for number in 0..16 {
            *registers.numbered_mut(number) = SCRAMBLED + u64::from(number);
        }
        let registers = Registers { rcx, rdx, r8, r9, rsp, rflags: FLAGS, rip: function, ..registers };
        let extended = Extended {
            // All exceptions masked; 53 bits of precision for the x87 (ibid., "FPCSR" and "MXCSR").
            x87_control: 0x027f,
            _x87_status: [0; 22],
            mxcsr: 0x1f80,
            _mxcsr_mask: 0,
            _x87: [0; 128],
            xmm: [SCRAMBLED_XMM; 16],
            _reserved: [0; 96],
        };
        Self { registers, extended, interruption: Interruption::default() }
    }

    /// Changes all that a function may.
    pub(super) fn scramble_volatile(&mut self) {
        for number in VOLATILE {
            *self.registers.numbered_mut(number) = SCRAMBLED + u64::from(number);
        }
        self.extended.xmm[..VOLATILE_XMM].fill(SCRAMBLED_XMM);
    }

    /// After a function has returned: the register that it should have preserved and has not.
    pub(super) fn clobbered(&self, rsp: u64) -> Option<&'static str> {
        let mut general = NONVOLATILE.iter().filter(|&&(number, _)| {
            let expected = if number == RSP { rsp } else { SCRAMBLED + u64::from(number) };
            self.registers.numbered(number) != expected
        });
        let xmm = self.extended.xmm[VOLATILE_XMM..].iter().zip(NONVOLATILE_XMM);
        let mut xmm = xmm.filter(|&(&value, _)| value != SCRAMBLED_XMM);
        general.next().map(|&(_, name)| name).or_else(|| xmm.next().map(|(_, name)| name))
    }
}
