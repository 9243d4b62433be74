//! A guest's memory for tests: one range of bytes.
use crate::Memory;
use abi::{Errno, Result};
use std::cell::RefCell;

/// `base..base + bytes.len()` is readable and writable, nothing else.
#[derive(Debug)]
pub struct FakeMemory {
    pub base: u64,
    pub bytes: RefCell<Vec<u8>>,
}

impl FakeMemory {
    pub fn new(base: u64, len: usize) -> Self {
        FakeMemory { base, bytes: RefCell::new(vec![0; len]) }
    }
    fn range(&self, addr: u64, len: usize) -> Result<std::ops::Range<usize>> {
        let start = addr.checked_sub(self.base).ok_or(Errno::EFAULT)? as usize;
        let end = start.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > self.bytes.borrow().len() { Err(Errno::EFAULT) } else { Ok(start..end) }
    }
}

impl Memory for FakeMemory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result {
        let r = self.range(addr, buf.len())?;
        buf.copy_from_slice(&self.bytes.borrow()[r]);
        Ok(())
    }
    fn write(&self, addr: u64, bytes: &[u8]) -> Result {
        let r = self.range(addr, bytes.len())?;
        self.bytes.borrow_mut()[r].copy_from_slice(bytes);
        Ok(())
    }
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> Result<usize> {
        let start = self.range(addr, 0)?.start;
        let n = buf.len().min(self.bytes.borrow().len() - start);
        if n == 0 && !buf.is_empty() {
            return Err(Errno::EFAULT);
        }
        buf[..n].copy_from_slice(&self.bytes.borrow()[start..start + n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{UserIn, UserOut, read_cstr};

    #[test]
    fn strings_end_at_nul_or_fail() {
        let m = FakeMemory::new(0x1ff0, 64);
        m.write(0x1ff8, b"across a page\0").unwrap();
        assert_eq!(read_cstr(&m, 0x1ff8, 4096).unwrap(), b"across a page");
        assert_eq!(read_cstr(&m, 0x1ff8, 4), Err(Errno::ENAMETOOLONG));
        assert_eq!(read_cstr(&m, 0x10, 4), Err(Errno::EFAULT));
    }

    #[test]
    fn typed_pointers_check_the_whole_object() {
        let m = FakeMemory::new(0x1000, 16);
        UserOut::<u64>::new(0x1008).put(&m, &7).unwrap();
        assert_eq!(UserIn::<u64>::new(0x1008).get(&m), Ok(7));
        assert_eq!(UserIn::<u64>::new(0x1009).get(&m), Err(Errno::EFAULT));
        assert_eq!(UserIn::<u64>::new(0).get_opt(&m), Ok(None));
        assert!(UserIn::<u64>::new(u64::MAX - 7).index(1).is_err());
    }
}
