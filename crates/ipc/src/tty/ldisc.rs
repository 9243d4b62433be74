//! The line discipline N_TTY: what the master writes becomes what the slave reads. termios(3).
use super::output::is_control;
use super::termios::{DISABLED, Termios};
use abi::c;
use std::collections::VecDeque;

/// Bytes the slave's input holds, one short of which a line must end.
const INPUT: usize = 4096;
/// What the master may write ahead of a slave whose input is full.
const AHEAD: usize = 8192;
/// Marks the last byte of a line. The byte is [`DISABLED`] where the line ended by VEOF, which is not read.
const END: u16 = 0x100;

/// One pty's line: settings, input, output and echoes between its two ends.
#[derive(Debug, Default)]
pub struct Line {
    pub termios: Termios,
    /// Input to be read, [`END`] where lines end.
    input: VecDeque<u16>,
    /// How many of them are in lines that have ended.
    lines: usize,
    /// Without lines: bytes have come since ICANON was turned off, or the input flushed.
    begun: bool,
    /// What the master wrote and input has no room for.
    ahead: VecDeque<u8>,
    /// VLNEXT came: the next byte is itself.
    literal: bool,
    /// Within what ECHOPRT shows as \…/.
    erasing: bool,
    pub(super) output: VecDeque<u8>,
    /// How much of it was there before the present piece of input.
    pub(super) delivered: usize,
    pub(super) echoes: VecDeque<u8>,
    pub(super) echo_mark: usize,
    pub(super) echo_commit: usize,
    /// Of the output, and where the line that is typed began.
    pub(super) column: usize,
    pub(super) canon_column: usize,
    pub stopped: bool,
    pub(super) stopped_by_call: bool,
    /// TIOCPKT, and what it has to tell.
    pub packet: bool,
    pub status: u8,
    /// Signals that characters meant, for the foreground group.
    pub signals: Vec<i32>,
}

fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric() || (b >= 0xc0 && b != 0xd7 && b != 0xf7)
}

fn lower(b: u8) -> u8 {
    match b {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => b + 0x20,
        _ => b,
    }
}

impl Line {
    fn canonical(&self) -> bool {
        self.termios.l(c::ICANON)
    }

    /// Lines are read, not bytes: ICANON, unless the master does the editing (EXTPROC).
    pub fn by_lines(&self) -> bool {
        self.canonical() && !self.termios.l(c::EXTPROC)
    }

    /// The rest of a character of several bytes.
    pub(super) fn continues(&self, b: u8) -> bool {
        self.termios.i(c::IUTF8) && b & 0xc0 == 0x80
    }

    /// Nothing is looked at on the way in.
    fn transparent(&self) -> bool {
        let t = &self.termios;
        let i = c::ISTRIP | c::IUCLC | c::IGNCR | c::ICRNL | c::INLCR | c::IXON | c::PARMRK;
        let plain = !t.i(i) && !t.l(c::ICANON | c::ISIG | c::ECHO);
        plain || (t.l(c::EXTPROC) && !t.i(c::ISTRIP) && !(t.i(c::IUCLC) && t.l(c::IEXTEN)))
    }

    /// Has `b` a meaning, or is it changed?
    fn special(&self, b: u8) -> bool {
        if b == DISABLED {
            return false;
        }
        let t = &self.termios;
        let is = |chars: &[usize]| chars.iter().any(|w| t.cc[*w] == b);
        (b == b'\r' && t.i(c::IGNCR | c::ICRNL))
            || (b == b'\n' && (t.i(c::INLCR) || t.l(c::ICANON)))
            || (t.l(c::ICANON) && is(&[c::VERASE, c::VKILL, c::VEOF, c::VEOL]))
            || (t.l(c::ICANON) && t.l(c::IEXTEN) && is(&[c::VWERASE, c::VLNEXT, c::VEOL2]))
            || (t.l(c::ICANON) && t.l(c::IEXTEN) && t.l(c::ECHO) && is(&[c::VREPRINT]))
            || (t.i(c::IXON) && is(&[c::VSTART, c::VSTOP]))
            || (t.l(c::ISIG) && is(&[c::VINTR, c::VQUIT, c::VSUSP]))
    }

    /// Changes the settings; what is half typed is carried over as Linux does.
    pub fn set_termios(&mut self, new: Termios) {
        let old = std::mem::replace(&mut self.termios, new);
        self.tell_settings(&old);
        if (old.lflag ^ new.lflag) & (c::ICANON | c::EXTPROC) != 0 {
            self.input.iter_mut().for_each(|b| *b &= 0xff);
            self.lines = 0;
            self.begun = !self.input.is_empty();
            if self.canonical()
                && let Some(last) = self.input.back_mut()
            {
                *last |= END;
                self.lines = self.input.len();
            }
            (self.erasing, self.literal) = (false, false);
        }
        if !new.i(c::IXON) && old.i(c::IXON) && !self.stopped_by_call {
            self.start();
            self.echo_marked();
        }
    }

    /// What a master in packet mode hears of new settings.
    fn tell_settings(&mut self, old: &Termios) {
        if !self.packet {
            return;
        }
        let flow = |t: &Termios| t.i(c::IXON) && t.char(c::VSTOP) == 0o23 && t.char(c::VSTART) == 0o21;
        let (was, is) = (flow(old), flow(&self.termios));
        if was != is {
            self.status &= !(super::TIOCPKT_DOSTOP | super::TIOCPKT_NOSTOP);
            self.tell(if is { super::TIOCPKT_DOSTOP } else { super::TIOCPKT_NOSTOP });
        }
        if (old.lflag | self.termios.lflag) & c::EXTPROC != 0 {
            self.tell(super::TIOCPKT_IOCTL);
        }
    }

    fn forget_input(&mut self) {
        self.input.clear();
        self.lines = 0;
        (self.begun, self.erasing) = (false, false);
    }

    /// Forgets what was typed and not read. `ahead`: also what has not come in yet.
    pub fn flush_input(&mut self, ahead: bool) {
        self.forget_input();
        if ahead {
            self.ahead.clear();
        }
        self.tell(super::TIOCPKT_FLUSHREAD);
        self.admit();
    }

    /// How many bytes the master may write.
    pub fn input_room(&self) -> usize {
        AHEAD.saturating_sub(self.ahead.len())
    }

    /// Takes what the master writes, at most [`input_room`](Self::input_room).
    pub fn receive(&mut self, bytes: &[u8]) {
        let taken = if self.ahead.is_empty() { self.take_in(bytes) } else { 0 };
        self.ahead.extend(&bytes[taken..]);
    }

    /// Input has room again: what waited comes in.
    pub fn admit(&mut self) {
        if !self.ahead.is_empty() {
            let mut waiting = std::mem::take(&mut self.ahead);
            let n = self.take_in(waiting.make_contiguous());
            waiting.drain(..n);
            self.ahead = waiting;
        }
    }

    /// Lets in as much as there is room for. A line that does not end keeps taking the place of its last byte, so
    /// that its end can still come.
    fn take_in(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        self.deliver();
        while done < bytes.len() {
            let mut free = INPUT as isize - self.input.len() as isize;
            if self.termios.i(c::PARMRK) {
                free = (free + if free > 0 { 2 } else { 0 }) / 3;
            }
            let mut room = free - 1;
            if room <= 0 {
                let overflow = self.canonical() && self.lines == 0;
                if overflow && room < 0 {
                    self.input.pop_back();
                }
                room = overflow.into();
            }
            let n = (room as usize).min(bytes.len() - done);
            if n == 0 {
                break;
            }
            let part = &bytes[done..done + n];
            if self.transparent() {
                self.input.extend(part.iter().map(|b| u16::from(*b)));
            } else {
                part.iter().for_each(|b| self.byte(*b));
                self.flush_echoes();
            }
            self.begun |= !self.input.is_empty();
            done += n;
        }
        done
    }

    fn byte(&mut self, b: u8) {
        let mut b = b;
        let literal = std::mem::take(&mut self.literal);
        if self.termios.i(c::ISTRIP) {
            b &= 0x7f;
        }
        if self.termios.i(c::IUCLC) && self.termios.l(c::IEXTEN) {
            b = lower(b);
        }
        if literal {
            self.ordinary(b);
        } else if self.termios.l(c::EXTPROC) {
            self.input.push_back(b.into());
        } else if self.special(b) {
            self.meaning(b);
        } else {
            self.ordinary(b);
        }
    }

    /// IXANY: any byte lets output go on.
    fn restart_by_any(&mut self) {
        if self.stopped && !self.stopped_by_call && self.termios.i(c::IXON) && self.termios.i(c::IXANY) {
            self.start();
            self.echo_marked();
        }
    }

    fn store(&mut self, b: u8) {
        if b == 0xff && self.termios.i(c::PARMRK) {
            self.input.push_back(0xff);
        }
        self.input.push_back(u16::from(b));
        self.begun = true;
    }

    /// Echoes a byte at the end of the line that is typed.
    fn echo_typed(&mut self, b: u8) {
        let first = if self.canonical() { self.lines == self.input.len() } else { !self.begun };
        if first {
            self.echo_column();
        }
        self.echo_char(b);
    }

    fn ordinary(&mut self, b: u8) {
        self.restart_by_any();
        if self.termios.l(c::ECHO) {
            self.finish_erasing();
            self.echo_typed(b);
            self.commit_echoes();
        }
        self.store(b);
    }

    fn meaning(&mut self, b: u8) {
        let t = self.termios;
        if t.i(c::IXON) && (b == t.char(c::VSTART) || b == t.char(c::VSTOP)) {
            if b == t.char(c::VSTART) {
                self.start();
                self.echo_marked();
            } else {
                self.stop(false);
            }
            return;
        }
        if t.l(c::ISIG) {
            let meant = [(c::VINTR, c::SIGINT), (c::VQUIT, c::SIGQUIT), (c::VSUSP, c::SIGTSTP)];
            if let Some((_, sig)) = meant.iter().find(|(w, _)| t.char(*w) == b) {
                return self.signal(*sig, b);
            }
        }
        self.restart_by_any();
        let mut b = b;
        if b == b'\r' {
            if t.i(c::IGNCR) {
                return;
            }
            if t.i(c::ICRNL) {
                b = b'\n';
            }
        } else if b == b'\n' && t.i(c::INLCR) {
            b = b'\r';
        }
        if t.l(c::ICANON) && self.edit(b) {
            return;
        }
        if t.l(c::ECHO) {
            self.finish_erasing();
            if b == b'\n' {
                self.echo_raw(b);
            } else {
                self.echo_typed(b);
            }
            self.commit_echoes();
        }
        self.store(b);
    }

    /// A character that is a signal to the foreground group; without NOFLSH nothing of before it is left.
    fn signal(&mut self, sig: i32, b: u8) {
        self.signals.push(sig);
        if !self.termios.l(c::NOFLSH) {
            self.forget_echoes();
            self.flush_output();
            self.forget_input();
            self.tell(super::TIOCPKT_FLUSHREAD);
        }
        if self.termios.i(c::IXON) {
            self.start();
        }
        if self.termios.l(c::ECHO) {
            self.echo_char(b);
            self.commit_echoes();
        } else {
            self.echo_marked();
        }
    }

    /// Line editing. False: the byte is one like others.
    fn edit(&mut self, b: u8) -> bool {
        let t = self.termios;
        let extended = t.l(c::IEXTEN);
        let is = |which: usize| t.char(which) == b;
        if is(c::VERASE) || is(c::VKILL) || (is(c::VWERASE) && extended) {
            self.erase(b);
            self.commit_echoes();
        } else if is(c::VLNEXT) && extended {
            self.literal = true;
            if t.l(c::ECHO) {
                self.finish_erasing();
                if t.l(c::ECHOCTL) {
                    self.echo_raw(b'^');
                    self.echo_raw(8);
                    self.commit_echoes();
                }
            }
        } else if is(c::VREPRINT) && t.l(c::ECHO) && extended {
            self.finish_erasing();
            self.echo_char(b);
            self.echo_raw(b'\n');
            for i in self.lines..self.input.len() {
                self.echo_char(self.input[i] as u8);
            }
            self.commit_echoes();
        } else if b == b'\n' {
            if t.l(c::ECHO | c::ECHONL) {
                self.echo_raw(b'\n');
                self.commit_echoes();
            }
            self.end_line(b);
        } else if is(c::VEOF) {
            self.end_line(DISABLED);
        } else if is(c::VEOL) || (is(c::VEOL2) && extended) {
            if t.l(c::ECHO) {
                self.echo_typed(b);
                self.commit_echoes();
            }
            if b == 0xff && t.i(c::PARMRK) {
                self.input.push_back(0xff);
            }
            self.end_line(b);
        } else {
            return false;
        }
        true
    }

    fn end_line(&mut self, b: u8) {
        self.input.push_back(u16::from(b) | END);
        self.lines = self.input.len();
    }

    fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.erasing) {
            self.echo_raw(b'/');
        }
    }

    /// VERASE, VWERASE and VKILL.
    fn erase(&mut self, b: u8) {
        let t = self.termios;
        if self.input.len() == self.lines {
            return;
        }
        let one = b == t.char(c::VERASE);
        let word = !one && b == t.char(c::VWERASE);
        if !one && !word {
            if !t.l(c::ECHO) {
                return self.input.truncate(self.lines);
            }
            if !t.l(c::ECHOK) || !t.l(c::ECHOKE) || !t.l(c::ECHOE) {
                self.input.truncate(self.lines);
                self.finish_erasing();
                self.echo_char(t.char(c::VKILL));
                if t.l(c::ECHOK) {
                    self.echo_raw(b'\n');
                }
                return;
            }
        }
        let mut seen = false;
        while self.input.len() > self.lines {
            let mut at = self.input.len() - 1;
            while self.continues(self.input[at] as u8) && at > self.lines {
                at -= 1;
            }
            let first = self.input[at] as u8;
            // Half a character is not erased.
            if self.continues(first) {
                break;
            }
            if word {
                if alphanumeric(first) || first == b'_' {
                    seen = true;
                } else if seen {
                    break;
                }
            }
            let rest: Vec<u8> = self.input.drain(at..).skip(1).map(|b| b as u8).collect();
            if t.l(c::ECHO) {
                self.show_erased(first, &rest, one);
            }
            if one {
                break;
            }
        }
        if self.input.len() == self.lines && t.l(c::ECHO) {
            self.finish_erasing();
        }
    }

    /// Shows that a character is gone.
    fn show_erased(&mut self, first: u8, rest: &[u8], one: bool) {
        let t = self.termios;
        if t.l(c::ECHOPRT) {
            if !std::mem::replace(&mut self.erasing, true) {
                self.echo_raw(b'\\');
            }
            self.echo_char(first);
            for b in rest {
                self.echo_raw(*b);
                self.echo_back();
            }
        } else if one && !t.l(c::ECHOE) {
            self.echo_char(t.char(c::VERASE));
        } else if first == b'\t' {
            let typed = self.input.range(self.lines..).rev().map(|b| *b as u8);
            let (mut columns, mut after_tab) = (0, false);
            for b in typed {
                if b == b'\t' {
                    after_tab = true;
                    break;
                }
                columns += match b {
                    b if is_control(b) => 2 * usize::from(t.l(c::ECHOCTL)),
                    b => usize::from(!self.continues(b)),
                };
            }
            self.echo_erase_tab(columns, after_tab);
        } else {
            let shown = if is_control(first) { 2 * usize::from(t.l(c::ECHOCTL)) } else { 1 };
            for b in b"\x08 \x08".repeat(shown) {
                self.echo_raw(b);
            }
        }
    }

    /// FIONREAD: bytes that may be read.
    pub fn readable(&self) -> usize {
        if !self.by_lines() {
            return self.input.len();
        }
        self.input.range(..self.lines).filter(|b| **b != END | u16::from(DISABLED)).count()
    }

    /// Is there something to read: a line, or `least` bytes?
    pub fn has_input(&self, least: usize) -> bool {
        if self.by_lines() { self.lines > 0 } else { self.input.len() >= least.max(1) }
    }

    /// What a read of `max` bytes gets, and how much of the input that takes.
    pub fn peek(&self, max: usize) -> (Vec<u8>, usize) {
        if !self.by_lines() {
            let n = self.input.len().min(max);
            let bytes: Vec<u8> = self.input.range(..n).map(|b| *b as u8).collect();
            let end = self.termios.l(c::EXTPROC) && self.canonical() && n == 1 && n == self.input.len();
            let eof = end && bytes[0] == self.termios.char(c::VEOF);
            return (if eof { Vec::new() } else { bytes }, n);
        }
        let found = self.input.range(..self.lines).position(|b| b & END != 0).unwrap_or(self.lines);
        let eof = |at: usize| at < self.lines && self.input[at] == END | u16::from(DISABLED);
        let n = found.min(max);
        let mut bytes: Vec<u8> = self.input.range(..n).map(|b| *b as u8).collect();
        if found > max || (found == max && !eof(found)) || found == self.lines {
            return (bytes, n);
        }
        if eof(found) {
            // The end is eaten with the line, also where the line just fills the buffer.
            return (bytes, n + 1);
        }
        bytes.push(self.input[found] as u8);
        (bytes, n + 1)
    }

    /// Takes what was read off the input.
    pub fn consume(&mut self, n: usize) {
        self.input.drain(..n);
        self.lines = self.lines.saturating_sub(n);
        self.admit();
    }
}
