//! A terminal's settings: termios(3) as the ioctls of ioctl_tty(2) carry it.
use abi::c;

/// `struct termios` of TCGETS, in bytes.
pub const TERMIOS: usize = 36;
/// `struct termios2` of TCGETS2: the speeds follow.
pub const TERMIOS2: usize = 44;

/// `struct termio` of TCGETA: each word's lower half, the line discipline, eight characters.
pub const TERMIO: usize = 18;

const NCCS: usize = 19;
const OLD_NCCS: usize = 8;
/// A character that is none: the function it would have is off.
pub(super) const DISABLED: u8 = 0;

/// Bits 16 to 28 of c_cflag: the input speed, if it differs.
const IBSHIFT: u32 = 16;
const BOTHER: u32 = c::BOTHER;
const CBAUDEX: u32 = 0o010000;
const CBAUD: u32 = 0o010017;
const SPEEDS: [u32; 31] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400, 57600, 115_200, 230_400,
    460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000,
    4_000_000,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; NCCS],
    pub ispeed: u32,
    pub ospeed: u32,
}

impl Default for Termios {
    /// As a fresh pty has them.
    fn default() -> Self {
        let mut cc = [DISABLED; NCCS];
        for (at, byte) in [
            (c::VINTR, 3),
            (c::VQUIT, 28),
            (c::VERASE, 127),
            (c::VKILL, 21),
            (c::VEOF, 4),
            (c::VMIN, 1),
            (c::VSTART, 17),
            (c::VSTOP, 19),
            (c::VSUSP, 26),
            (c::VREPRINT, 18),
            (c::VDISCARD, 15),
            (c::VWERASE, 23),
            (c::VLNEXT, 22),
        ] {
            cc[at] = byte;
        }
        Termios {
            iflag: c::ICRNL | c::IXON,
            oflag: c::OPOST | c::ONLCR,
            cflag: c::B38400 | c::CS8 | c::CREAD,
            lflag: c::ISIG | c::ICANON | c::ECHO | c::ECHOE | c::ECHOK | c::ECHOCTL | c::ECHOKE | c::IEXTEN,
            line: 0,
            cc,
            ispeed: 38400,
            ospeed: 38400,
        }
    }
}

fn word(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

impl Termios {
    pub fn to_bytes(self) -> [u8; TERMIOS2] {
        let mut b = [0; TERMIOS2];
        for (i, w) in [self.iflag, self.oflag, self.cflag, self.lflag].into_iter().enumerate() {
            b[i * 4..i * 4 + 4].copy_from_slice(&w.to_ne_bytes());
        }
        b[16] = self.line;
        b[17..17 + NCCS].copy_from_slice(&self.cc);
        b[36..40].copy_from_slice(&self.ispeed.to_ne_bytes());
        b[40..44].copy_from_slice(&self.ospeed.to_ne_bytes());
        b
    }

    pub fn to_old(self) -> [u8; TERMIO] {
        let mut b = [0; TERMIO];
        for (i, w) in [self.iflag, self.oflag, self.cflag, self.lflag].into_iter().enumerate() {
            b[i * 2..i * 2 + 2].copy_from_slice(&(w as u16).to_ne_bytes());
        }
        b[8] = self.line;
        b[9..9 + OLD_NCCS].copy_from_slice(&self.cc[..OLD_NCCS]);
        b
    }

    /// These settings with those that TCSETA gives: what the old structure has no room for stays as it is.
    pub fn with_old(self, b: &[u8; TERMIO]) -> Termios {
        let mut new = self.to_bytes();
        for i in 0..4 {
            new[i * 4..i * 4 + 2].copy_from_slice(&b[i * 2..i * 2 + 2]);
        }
        new[16] = b[8];
        new[17..17 + OLD_NCCS].copy_from_slice(&b[9..9 + OLD_NCCS]);
        self.with_bytes(&new[..TERMIOS])
    }

    /// These settings with those that `b` gives; without speeds (TCSETS) they follow from c_cflag where that has them.
    pub fn with_bytes(self, b: &[u8]) -> Termios {
        let mut t = self;
        t.iflag = word(b, 0);
        t.oflag = word(b, 4);
        t.cflag = word(b, 8);
        t.lflag = word(b, 12);
        t.line = b[16];
        t.cc.copy_from_slice(&b[17..17 + NCCS]);
        if b.len() >= TERMIOS2 {
            t.ispeed = word(b, 36);
            t.ospeed = word(b, 40);
        }
        let out = t.cflag & CBAUD;
        let input = t.cflag >> IBSHIFT & CBAUD;
        t.ospeed = speed(out, t.ospeed);
        t.ispeed = if input == 0 { t.ospeed } else { speed(input, t.ispeed) };
        // A pty has eight bits and no parity, whatever is asked.
        t.cflag = t.cflag & !(c::CSIZE | c::PARENB) | c::CS8 | c::CREAD;
        t
    }

    pub fn i(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }
    pub fn o(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }
    pub fn l(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }
    pub fn char(&self, which: usize) -> u8 {
        self.cc[which]
    }
}

fn speed(code: u32, other: u32) -> u32 {
    if code == BOTHER {
        return other;
    }
    let i = if code & CBAUDEX != 0 { (code & !CBAUDEX) + 15 } else { code };
    SPEEDS.get(i as usize).copied().unwrap_or(0)
}
