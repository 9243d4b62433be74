//! The container's own kernel log: a ring of records, and what syslog(2) does with it.
use abi::Errno;
use std::collections::VecDeque;

/// More than a line of the host's log has.
const LONGEST: usize = 1000;

/// One record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Facility and level as the kernel writes them: `facility * 8 + level`.
    pub level: u32,
    pub number: u64,
    /// Since the host's start.
    pub ns: u64,
    pub text: String,
}

impl Record {
    /// As syslog(2) and /proc/kmsg show it.
    pub fn line(&self) -> String {
        let micros = self.ns / 1000;
        format!("<{}>[{:5}.{:06}] {}\n", self.level, micros / 1_000_000, micros % 1_000_000, self.text)
    }

    /// As /dev/kmsg shows it: what is not plain text is escaped.
    pub fn entry(&self) -> String {
        let mut out = format!("{},{},{},-;", self.level, self.number, self.ns / 1000);
        for byte in self.text.bytes() {
            match byte {
                b' '..=b'~' if byte != b'\\' => out.push(byte.into()),
                _ => out.push_str(&format!("\\x{byte:02x}")),
            }
        }
        out.push('\n');
        out
    }
}

/// What syslog(2) answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Value(i64),
    /// Bytes for the caller's buffer.
    Bytes(Vec<u8>),
    /// There is nothing to be read yet.
    Wait,
}

#[derive(Debug)]
pub struct Log {
    records: VecDeque<Record>,
    bytes: usize,
    size: usize,
    next: u64,
    /// Where SYSLOG_ACTION_READ goes on, and within that record.
    unread: u64,
    within: usize,
    /// What came before was cleared.
    cleared: u64,
}

impl Log {
    pub fn new(size: u32) -> Log {
        let size = (size as usize).clamp(4096, 16 << 20);
        Log { records: VecDeque::new(), bytes: 0, size, next: 0, unread: 0, within: 0, cleared: 0 }
    }

    /// Adds a record; the oldest go when there is no more room.
    pub fn add(&mut self, level: u32, ns: u64, text: &str) -> &Record {
        let mut text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        while text.len() > LONGEST {
            text.pop();
        }
        let record = Record { level, number: self.next, ns, text };
        self.next += 1;
        self.bytes += record.line().len();
        self.records.push_back(record);
        while self.bytes > self.size && self.records.len() > 1 {
            if let Some(gone) = self.records.pop_front() {
                self.bytes -= gone.line().len();
            }
        }
        let first = self.next - self.records.len() as u64;
        if self.unread < first {
            (self.unread, self.within) = (first, 0);
        }
        self.records.back().expect("just added")
    }

    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// The numbers of the oldest record there is, of the first since the log was cleared, and of the one to come.
    pub fn bounds(&self) -> (u64, u64, u64) {
        let first = self.next - self.records.len() as u64;
        (first, self.cleared.max(first), self.next)
    }

    pub fn record(&self, number: u64) -> Option<&Record> {
        self.from(number).next().filter(|r| r.number == number)
    }

    fn from(&self, number: u64) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter().filter(move |r| r.number >= number)
    }

    /// SYSLOG_ACTION_READ: what was not read yet, at most `length` bytes.
    pub fn read(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < length {
            let Some(line) = self.from(self.unread).next().map(Record::line) else { break };
            let rest = &line.as_bytes()[self.within.min(line.len())..];
            let n = rest.len().min(length - out.len());
            out.extend_from_slice(&rest[..n]);
            if n == rest.len() {
                (self.unread, self.within) = (self.unread + 1, 0);
            } else {
                self.within += n;
            }
        }
        out
    }

    /// How much SYSLOG_ACTION_READ would give.
    pub fn unread_bytes(&self) -> usize {
        self.from(self.unread).map(|r| r.line().len()).sum::<usize>().saturating_sub(self.within)
    }

    /// The last records that fit, whole ones only.
    fn tail(&self, length: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        let mut sum = 0;
        for record in self.from(self.cleared).rev() {
            let line = record.line();
            if sum + line.len() > length {
                break;
            }
            sum += line.len();
            taken.push(line);
        }
        taken.iter().rev().flat_map(|line| line.bytes()).collect()
    }

    /// syslog(2). `buffer`: the caller's pointer is not null.
    pub fn syslog(&mut self, action: i32, buffer: bool, length: i32) -> Result<Reply, Errno> {
        let room = || match usize::try_from(length) {
            Ok(n) if buffer => Ok(n),
            _ => Err(Errno::EINVAL),
        };
        match action {
            0 | 1 => Ok(Reply::Value(0)),
            2 => match room()? {
                0 => Ok(Reply::Value(0)),
                _ if self.unread_bytes() == 0 => Ok(Reply::Wait),
                n => Ok(Reply::Bytes(self.read(n))),
            },
            3 | 4 => {
                let bytes = match room()? {
                    0 => return Ok(Reply::Value(0)),
                    n => self.tail(n),
                };
                if action == 4 {
                    self.cleared = self.next;
                }
                Ok(Reply::Bytes(bytes))
            }
            5 => {
                self.cleared = self.next;
                Ok(Reply::Value(0))
            }
            // The level of the host's console is not the container's to set.
            6 | 7 => Ok(Reply::Value(0)),
            8 if (1..=8).contains(&length) => Ok(Reply::Value(0)),
            9 => Ok(Reply::Value(self.unread_bytes() as i64)),
            10 => Ok(Reply::Value(self.size as i64)),
            _ => Err(Errno::EINVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Log {
        let mut log = Log::new(4096);
        log.add(6, 1_000_000, "first");
        log.add(4, 2_000_000_000, "second");
        log
    }

    #[test]
    fn reading() {
        let mut log = log();
        let Ok(Reply::Bytes(part)) = log.syslog(2, true, 10) else { panic!("bytes") };
        assert_eq!(part, b"<6>[    0.");
        let all = b"<6>[    0.001000] first\n<4>[    2.000000] second\n";
        assert_eq!(log.syslog(9, false, 0), Ok(Reply::Value(all.len() as i64 - 10)));
        assert_eq!(log.syslog(2, true, 100), Ok(Reply::Bytes(all[10..].to_vec())));
        assert_eq!(log.syslog(2, true, 100), Ok(Reply::Wait));
        assert_eq!(log.syslog(3, true, 100), Ok(Reply::Bytes(all.to_vec())));
        assert_eq!(log.syslog(3, true, 30), Ok(Reply::Bytes(b"<4>[    2.000000] second\n".to_vec())));
        assert_eq!(log.syslog(4, true, 100), Ok(Reply::Bytes(all.to_vec())));
        assert_eq!(log.syslog(3, true, 100), Ok(Reply::Bytes(vec![])));
        assert_eq!(log.syslog(10, false, 0), Ok(Reply::Value(4096)));
    }

    #[test]
    fn entries() {
        let mut log = log();
        log.add(12, 3_000, "a\\b é\n");
        let entries: Vec<String> = log.records().map(Record::entry).collect();
        assert_eq!(entries, ["6,0,1000,-;first\n", "4,1,2000000,-;second\n", "12,2,3,-;a\\x5cb \\xc3\\xa9?\n"]);
        assert_eq!(log.syslog(5, false, 0), Ok(Reply::Value(0)));
        assert_eq!(log.bounds(), (0, 3, 3));
        assert!(log.record(2).is_some() && log.record(3).is_none());
    }

    #[test]
    fn refusals() {
        for (action, buffer, length) in [(2, false, 5), (3, true, -1), (8, false, 9), (11, false, 0), (-1, true, 1)] {
            assert_eq!(log().syslog(action, buffer, length), Err(Errno::EINVAL), "{action}");
        }
    }

    #[test]
    fn the_oldest_go() {
        let mut log = log();
        for i in 0..1000 {
            log.add(6, 0, &format!("line {i}"));
        }
        assert!(log.records().count() < 200);
        let Ok(Reply::Bytes(all)) = log.syslog(2, true, 1 << 20) else { panic!("bytes") };
        assert!(all.ends_with(b"line 999\n") && all.len() <= 4096);
        log.add(6, 0, &"x\n".repeat(4000));
        assert!(log.records().all(|r| r.text.len() <= LONGEST && !r.text.contains('\n')));
    }
}
