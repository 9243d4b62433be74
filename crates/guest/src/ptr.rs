//! Typed guest pointers. The direction is in the type: a handler cannot write through a [`UserIn`].
use crate::Memory;
use abi::{Errno, Result};
use std::marker::PhantomData;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

macro_rules! pointer {
    ($(#[$m:meta])* $name:ident) => {
        $(#[$m])*
        pub struct $name<T> {
            addr: u64,
            of: PhantomData<T>,
        }
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<T> Copy for $name<T> {}
        impl<T> $name<T> {
            pub const fn new(addr: u64) -> Self {
                $name { addr, of: PhantomData }
            }
            pub const fn addr(self) -> u64 {
                self.addr
            }
            pub const fn is_null(self) -> bool {
                self.addr == 0
            }
            /// The `i`-th element of an array that starts here. EFAULT if the address wraps.
            pub fn index(self, i: usize) -> Result<Self> {
                (i as u64)
                    .checked_mul(size_of::<T>() as u64)
                    .and_then(|o| self.addr.checked_add(o))
                    .map(Self::new)
                    .ok_or(Errno::EFAULT)
            }
        }
    };
}

pointer!(
    /// The guest gives a `T`.
    UserIn
);
pointer!(
    /// The guest takes a `T`.
    UserOut
);
pointer!(
    /// The guest gives a `T` and takes one back.
    UserInOut
);

fn read<T: FromBytes + FromZeros + IntoBytes>(mem: &dyn Memory, addr: u64) -> Result<T> {
    let mut v = T::new_zeroed();
    mem.read(addr, v.as_mut_bytes())?;
    Ok(v)
}

impl<T: FromBytes + FromZeros + IntoBytes> UserIn<T> {
    pub fn get(self, mem: &dyn Memory) -> Result<T> {
        read(mem, self.addr)
    }
    /// `None` for a null pointer.
    pub fn get_opt(self, mem: &dyn Memory) -> Result<Option<T>> {
        if self.is_null() { Ok(None) } else { self.get(mem).map(Some) }
    }
    /// A structure that grows from version to version; the guest's has `size` bytes. EINVAL: fewer than the `first` version had;
    /// E2BIG: more than a page, or what this kernel does not know is not 0.
    pub fn get_sized(self, mem: &dyn Memory, size: usize, first: usize) -> Result<T> {
        if size < first {
            return Err(Errno::EINVAL);
        }
        if size as u64 > abi::PAGE_SIZE {
            return Err(Errno::E2BIG);
        }
        let mut bytes = vec![0u8; size];
        mem.read(self.addr, &mut bytes)?;
        let mut v = T::new_zeroed();
        let known = size.min(size_of::<T>());
        v.as_mut_bytes()[..known].copy_from_slice(&bytes[..known]);
        if bytes[known..].iter().any(|b| *b != 0) { Err(Errno::E2BIG) } else { Ok(v) }
    }
    pub fn get_array(self, mem: &dyn Memory, n: usize) -> Result<Vec<T>> {
        if n == 0 {
            // Nobody looks at where it would be.
            return Ok(Vec::new());
        }
        let mut v: Vec<T> = (0..n).map(|_| T::new_zeroed()).collect();
        mem.read(self.addr, v.as_mut_bytes())?;
        Ok(v)
    }
}

impl<T: IntoBytes + Immutable> UserOut<T> {
    pub fn put(self, mem: &dyn Memory, v: &T) -> Result {
        mem.write(self.addr, v.as_bytes())
    }
    /// As [`get_sized`](UserIn::get_sized): as much as the guest's has room for, and 0 where it has more.
    pub fn put_sized(self, mem: &dyn Memory, size: usize, v: &T) -> Result {
        let mut bytes = v.as_bytes().to_vec();
        bytes.resize(size, 0);
        mem.write(self.addr, &bytes)
    }
    /// Does nothing for a null pointer.
    pub fn put_opt(self, mem: &dyn Memory, v: &T) -> Result {
        if self.is_null() { Ok(()) } else { self.put(mem, v) }
    }
}

impl<T: FromBytes + FromZeros + IntoBytes + Immutable> UserInOut<T> {
    pub fn get(self, mem: &dyn Memory) -> Result<T> {
        read(mem, self.addr)
    }
    pub fn put(self, mem: &dyn Memory, v: &T) -> Result {
        mem.write(self.addr, v.as_bytes())
    }
}
