//! What goes out to the master: the program's bytes after OPOST, and echoes. termios(3), "c_oflag".
//!
//! Echoes wait in a queue of their own, as bytes and small operations: they keep their order with what the program
//! writes, and wait while output is stopped.
use super::ldisc::Line;
use abi::c;

/// What waits for a master that does not read.
pub(super) const OUTPUT: usize = 12 << 10;
/// What of it a flush leaves at most: that much is as good as read.
const SENT: usize = 4095;

/// What one byte becomes at most: a tab's spaces.
const LARGEST: usize = 8;

/// In the echo queue this byte begins an operation; followed by itself it is the byte.
const OP: u8 = 0xff;
const OP_BACK: u8 = 0x80;
const OP_COLUMN: u8 = 0x81;
const OP_ERASE_TAB: u8 = 0x82;

const ECHOES: usize = 4096;
const BLOCK: usize = 256;
const ECHOES_FULL: usize = ECHOES - (BLOCK + 32);

pub(super) fn is_control(b: u8) -> bool {
    b < 0x20 || b == 0x7f
}

fn upper(b: u8) -> u8 {
    match b {
        b'a'..=b'z' | 0xdf..=0xf6 | 0xf8..=0xff => b - 0x20,
        _ => b,
    }
}

impl Line {
    /// Bytes that may go out now.
    pub fn room(&self) -> usize {
        if self.stopped { 0 } else { OUTPUT.saturating_sub(self.output.len()) }
    }

    /// What is output now reaches the master before anything else happens.
    pub fn deliver(&mut self) {
        self.delivered = self.output.len();
    }

    /// Is there room for a byte of the program's, whatever it becomes? Then a write takes at least one.
    pub fn writable(&self) -> bool {
        self.room() >= if self.termios.o(c::OPOST) { LARGEST } else { 1 }
    }

    /// Forgets output that the master has not seen: what the present piece of input brought, and what is too much.
    pub fn flush_output(&mut self) {
        self.output.truncate(SENT.min(self.delivered));
        self.tell(super::TIOCPKT_FLUSHWRITE);
    }

    /// Takes what the program writes; returns how much.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.echo_marked();
        if !self.termios.o(c::OPOST) {
            let n = bytes.len().min(self.room());
            self.output.extend(&bytes[..n]);
            return n;
        }
        bytes.iter().position(|b| !self.put_processed(*b)).unwrap_or(bytes.len())
    }

    /// One byte through OPOST. False: there is no room.
    fn put_processed(&mut self, b: u8) -> bool {
        let t = self.termios;
        let room = self.room();
        if room == 0 {
            return false;
        }
        let mut b = b;
        match b {
            b'\n' => {
                if t.o(c::ONLRET) {
                    self.column = 0;
                }
                if t.o(c::ONLCR) {
                    if room < 2 {
                        return false;
                    }
                    (self.column, self.canon_column) = (0, 0);
                    self.output.push_back(b'\r');
                } else {
                    self.canon_column = self.column;
                }
            }
            b'\r' => {
                if t.o(c::ONOCR) && self.column == 0 {
                    return true;
                }
                if t.o(c::OCRNL) {
                    b = b'\n';
                }
                if b == b'\r' || t.o(c::ONLRET) {
                    (self.column, self.canon_column) = (0, 0);
                }
            }
            b'\t' => {
                let spaces = 8 - (self.column & 7);
                if t.oflag & c::TABDLY == c::TAB3 {
                    if room < spaces {
                        return false;
                    }
                    self.output.extend(std::iter::repeat_n(b' ', spaces));
                    self.column += spaces;
                    return true;
                }
                self.column += spaces;
            }
            8 => self.column = self.column.saturating_sub(1),
            _ if is_control(b) => {}
            _ => {
                if t.o(c::OLCUC) {
                    b = upper(b);
                }
                if !self.continues(b) {
                    self.column += 1;
                }
            }
        }
        self.output.push_back(b);
        true
    }

    fn echo_byte(&mut self, b: u8) {
        // Beyond its size the queue forgets what is oldest.
        while self.echoes.len() >= ECHOES {
            self.drop_echo();
        }
        self.echoes.push_back(b);
    }

    fn echo_op(&mut self, op: u8) {
        self.echo_byte(OP);
        self.echo_byte(op);
    }

    /// Echoes a byte as it is.
    pub fn echo_raw(&mut self, b: u8) {
        if b == OP { self.echo_op(OP) } else { self.echo_byte(b) }
    }

    /// Echoes a byte, control characters as ^X with ECHOCTL.
    pub fn echo_char(&mut self, b: u8) {
        if b != OP && self.termios.l(c::ECHOCTL) && is_control(b) && b != b'\t' {
            self.echo_op(b);
        } else {
            self.echo_raw(b);
        }
    }

    /// The column where the line that is typed begins is the present one.
    pub fn echo_column(&mut self) {
        self.echo_op(OP_COLUMN);
    }

    /// The byte echoed last was the rest of a character.
    pub fn echo_back(&mut self) {
        self.echo_op(OP_BACK);
    }

    /// Goes back over a tab that followed `columns` others, since the line's start or an earlier tab.
    pub fn echo_erase_tab(&mut self, columns: usize, after_tab: bool) {
        self.echo_op(OP_ERASE_TAB);
        self.echo_byte((columns & 7) as u8 | if after_tab { 0x80 } else { 0 });
    }

    /// Forgets every echo.
    pub fn forget_echoes(&mut self) {
        self.echoes.clear();
        (self.echo_mark, self.echo_commit) = (0, 0);
    }

    /// What is queued so far belongs together; much of it goes out at once.
    pub fn commit_echoes(&mut self) {
        let (old, queued) = (self.echo_commit, self.echoes.len());
        self.echo_mark = queued;
        if queued >= BLOCK && queued % BLOCK <= old % BLOCK {
            self.echo_commit = queued;
            self.send_echoes();
        }
    }

    /// Sends what was committed, before other output.
    pub fn echo_marked(&mut self) {
        if self.echo_mark > 0 {
            self.echo_commit = self.echo_mark;
            self.send_echoes();
        }
    }

    /// Sends all echoes, at the end of a piece of input.
    pub fn flush_echoes(&mut self) {
        if self.termios.l(c::ECHO | c::ECHONL) && self.echo_commit != self.echoes.len() {
            self.echo_commit = self.echoes.len();
            self.send_echoes();
        }
    }

    fn op_length(&self) -> usize {
        match (self.echoes.front(), self.echoes.get(1)) {
            (Some(&OP), Some(&OP_ERASE_TAB)) => 3,
            (Some(&OP), _) => 2,
            _ => 1,
        }
    }

    fn drop_echo(&mut self) {
        let n = self.op_length().min(self.echoes.len());
        self.echoes.drain(..n);
        self.echo_mark = self.echo_mark.saturating_sub(n);
        self.echo_commit = self.echo_commit.saturating_sub(n);
    }

    fn send_echoes(&mut self) {
        while self.echo_commit >= self.op_length() && !self.echoes.is_empty() && self.send_echo() {
            self.drop_echo();
        }
        while self.echo_commit >= ECHOES_FULL {
            self.drop_echo();
        }
    }

    /// Sends the first echo. False: there is no room.
    fn send_echo(&mut self) -> bool {
        let room = self.room();
        let first = self.echoes[0];
        if first != OP {
            return if self.termios.o(c::OPOST) { self.put_processed(first) } else { self.send(&[first]) };
        }
        match self.echoes.get(1).copied() {
            Some(OP_ERASE_TAB) => {
                let columns = usize::from(self.echoes.get(2).copied().unwrap_or(0));
                let before = if columns & 0x80 == 0 { columns + self.canon_column } else { columns };
                let back = 8 - (before & 7);
                if back > room {
                    return false;
                }
                self.output.extend(std::iter::repeat_n(8, back));
                self.column = self.column.saturating_sub(back);
            }
            Some(OP_COLUMN) => self.canon_column = self.column,
            Some(OP_BACK) => self.column = self.column.saturating_sub(1),
            Some(OP) => {
                if !self.send(&[OP]) {
                    return false;
                }
                self.column += 1;
            }
            Some(control) => {
                if !self.send(&[b'^', control ^ 0o100]) {
                    return false;
                }
                self.column += 2;
            }
            None => {}
        }
        true
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        let fits = self.room() >= bytes.len();
        if fits {
            self.output.extend(bytes);
        }
        fits
    }

    /// TCIOFF, TCION: STOP and START are written past what ^S stopped, not past what tcflow(3) did.
    pub fn send_character(&mut self, which: usize) {
        let b = self.termios.char(which);
        if b != super::termios::DISABLED && !self.stopped_by_call {
            self.output.push_back(b);
        }
    }

    /// Stops output. `by_call`: tcflow(3) did, and only tcflow lets it go on.
    pub fn stop(&mut self, by_call: bool) {
        self.stopped_by_call |= by_call;
        if !std::mem::replace(&mut self.stopped, true) {
            self.status &= !super::TIOCPKT_START;
            self.tell(super::TIOCPKT_STOP);
        }
    }

    pub fn start(&mut self) {
        if self.stopped && !self.stopped_by_call {
            self.stopped = false;
            self.status &= !super::TIOCPKT_STOP;
            self.tell(super::TIOCPKT_START);
        }
    }

    /// Notes a change for a master in packet mode, ioctl_tty(2).
    pub fn tell(&mut self, what: u8) {
        if self.packet {
            self.status |= what;
        }
    }
}
