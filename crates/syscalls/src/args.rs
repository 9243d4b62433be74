//! Arguments: the type of a handler's parameter says how a register is decoded, copied ahead, and printed.
use abi::{Errno, Result};
use guest::{Memory, UserIn, UserInOut, UserOut, read_cstr};

/// How an argument is shown by strace, and what the stub may copy ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Uint,
    Hex,
    /// A descriptor, or AT_FDCWD.
    Fd,
    /// A NUL-terminated string.
    Str,
    /// Pointer to a structure of this many bytes that is read.
    In(usize),
    Out,
    /// As In, and written back.
    InOut(usize),
    /// Bytes that are read; their count is in the argument of this index.
    InBuf(usize),
    /// `struct iovec`s whose bytes are read; their number is in the argument of this index.
    InVec(usize),
    OutBuf(usize),
    Addr,
}

/// One argument. `decode` refuses what the type cannot hold.
pub trait Arg: Sized {
    const KIND: Kind;
    fn decode(raw: u64) -> Result<Self>;
}

macro_rules! plain {
    ($($t:ty => $kind:ident),*) => {$(
        impl Arg for $t {
            const KIND: Kind = Kind::$kind;
            fn decode(raw: u64) -> Result<Self> {
                Ok(raw as $t)
            }
        }
    )*};
}
plain!(i32 => Int, i64 => Int, u32 => Uint, u64 => Hex, usize => Uint);

/// A descriptor argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fd(pub i32);
impl Arg for Fd {
    const KIND: Kind = Kind::Fd;
    fn decode(raw: u64) -> Result<Self> {
        Ok(Fd(raw as i32))
    }
}

/// Flags: 32 bits, printed in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);
impl Arg for Flags {
    const KIND: Kind = Kind::Hex;
    fn decode(raw: u64) -> Result<Self> {
        Ok(Flags(raw as u32))
    }
}
impl Flags {
    /// The bits as the C type most flags have; EINVAL if any is set outside `known`.
    pub fn only(self, known: i32) -> Result<i32> {
        if self.0 as i32 & !known != 0 { Err(Errno::EINVAL) } else { Ok(self.0 as i32) }
    }
    pub fn bits(self) -> i32 {
        self.0 as i32
    }
}

/// A guest address that is not read through: mmap, brk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addr(pub u64);
impl Arg for Addr {
    const KIND: Kind = Kind::Addr;
    fn decode(raw: u64) -> Result<Self> {
        Ok(Addr(raw))
    }
}

/// A path name.
#[derive(Debug, Clone, Copy)]
pub struct PathArg(pub u64);
impl Arg for PathArg {
    const KIND: Kind = Kind::Str;
    fn decode(raw: u64) -> Result<Self> {
        Ok(PathArg(raw))
    }
}
impl PathArg {
    /// The bytes without the NUL. ENAMETOOLONG from PATH_MAX on.
    pub fn get(self, mem: &dyn Memory) -> Result<Vec<u8>> {
        read_cstr(mem, self.0, 4096)
    }
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// Any other string; the limit is the handler's.
#[derive(Debug, Clone, Copy)]
pub struct StrArg(pub u64);
impl Arg for StrArg {
    const KIND: Kind = Kind::Str;
    fn decode(raw: u64) -> Result<Self> {
        Ok(StrArg(raw))
    }
}
impl StrArg {
    pub fn get(self, mem: &dyn Memory, max: usize) -> Result<Vec<u8>> {
        read_cstr(mem, self.0, max)
    }
}

/// Bytes the guest gives; their count is argument `LEN`.
#[derive(Debug, Clone, Copy)]
pub struct InBuf<const LEN: usize>(pub u64);
impl<const LEN: usize> Arg for InBuf<LEN> {
    const KIND: Kind = Kind::InBuf(LEN);
    fn decode(raw: u64) -> Result<Self> {
        Ok(InBuf(raw))
    }
}

/// Entries of a vector whose bytes the guest gives; their number is argument `LEN`.
#[derive(Debug, Clone, Copy)]
pub struct InVec<const LEN: usize>(pub u64);
impl<const LEN: usize> Arg for InVec<LEN> {
    const KIND: Kind = Kind::InVec(LEN);
    fn decode(raw: u64) -> Result<Self> {
        Ok(InVec(raw))
    }
}

/// Bytes the guest takes; their count is argument `LEN`.
#[derive(Debug, Clone, Copy)]
pub struct OutBuf<const LEN: usize>(pub u64);
impl<const LEN: usize> Arg for OutBuf<LEN> {
    const KIND: Kind = Kind::OutBuf(LEN);
    fn decode(raw: u64) -> Result<Self> {
        Ok(OutBuf(raw))
    }
}

impl<T> Arg for UserIn<T> {
    const KIND: Kind = Kind::In(size_of::<T>());
    fn decode(raw: u64) -> Result<Self> {
        Ok(UserIn::new(raw))
    }
}
impl<T> Arg for UserOut<T> {
    const KIND: Kind = Kind::Out;
    fn decode(raw: u64) -> Result<Self> {
        Ok(UserOut::new(raw))
    }
}
impl<T> Arg for UserInOut<T> {
    const KIND: Kind = Kind::InOut(size_of::<T>());
    fn decode(raw: u64) -> Result<Self> {
        Ok(UserInOut::new(raw))
    }
}

/// What a handler returns, as a register.
pub trait Ret {
    fn ret(self) -> i64;
}
impl Ret for () {
    fn ret(self) -> i64 {
        0
    }
}
macro_rules! rets {
    ($($t:ty),*) => {$(impl Ret for $t { fn ret(self) -> i64 { self as i64 } })*};
}
rets!(i32, u32, i64, u64, usize);
