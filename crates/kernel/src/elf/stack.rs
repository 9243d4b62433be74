//! A new program's first stack: arguments, environment, auxiliary vector. getauxval(3).
use abi::{Errno, Result};

/// Longest single argument (MAX_ARG_STRLEN).
const STRING_MAX: usize = 128 << 10;

/// Entries of the auxiliary vector besides the pointers that [`build`] adds itself.
pub type Auxv = Vec<(u64, u64)>;

const AT_NULL: u64 = 0;
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;

/// A stack, ready to be written.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Where `bytes` go, which is also the first stack pointer.
    pub sp: u64,
    pub bytes: Vec<u8>,
    /// Addresses of the argument strings and of the environment strings.
    pub args: (u64, u64),
    pub env: (u64, u64),
    /// The vector as /proc/PID/auxv shows it.
    pub auxv: Vec<u8>,
}

/// Lays out a stack that ends at `top`. E2BIG: more than `limit` bytes, or one string of more than 128 KiB.
pub fn build(
    top: u64,
    args: &[Vec<u8>],
    env: &[Vec<u8>],
    execfn: &[u8],
    random: [u8; 16],
    auxv: &Auxv,
    limit: u64,
) -> Result<Stack> {
    let total: usize = args.iter().chain(env).map(|s| s.len() + 1 + 8).sum::<usize>() + execfn.len() + 1;
    if total as u64 > limit || args.iter().chain(env).any(|s| s.len() >= STRING_MAX) {
        return Err(Errno::E2BIG);
    }
    // Strings from the top down, in the order Linux has them: file name, environment, arguments, platform, random.
    let mut strings: Vec<u8> = Vec::with_capacity(total + 64);
    strings.extend_from_slice(&random);
    let platform_at = strings.len();
    strings.extend_from_slice(b"x86_64\0");
    let mut place = |list: &[Vec<u8>]| -> (Vec<usize>, usize, usize) {
        let start = strings.len();
        let at = list
            .iter()
            .map(|s| {
                let at = strings.len();
                strings.extend_from_slice(s);
                strings.push(0);
                at
            })
            .collect();
        (at, start, strings.len())
    };
    let (arg_at, arg_start, arg_end) = place(args);
    let (env_at, env_start, env_end) = place(env);
    let execfn_at = strings.len();
    strings.extend_from_slice(execfn);
    strings.push(0);

    let base = (top - 8 - strings.len() as u64) & !15;
    let at = |offset: usize| base + offset as u64;
    let mut vector: Vec<(u64, u64)> = auxv.clone();
    vector.extend([(AT_RANDOM, at(0)), (AT_PLATFORM, at(platform_at)), (AT_EXECFN, at(execfn_at)), (AT_NULL, 0)]);
    let mut words: Vec<u64> = Vec::with_capacity(args.len() + env.len() + 3 + vector.len() * 2);
    words.push(args.len() as u64);
    words.extend(arg_at.iter().map(|o| at(*o)));
    words.push(0);
    words.extend(env_at.iter().map(|o| at(*o)));
    words.push(0);
    let auxv_from = words.len();
    words.extend(vector.iter().flat_map(|(k, v)| [*k, *v]));

    let sp = (base - words.len() as u64 * 8) & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let auxv = bytes[auxv_from * 8..].to_vec();
    bytes.resize((base - sp) as usize, 0);
    bytes.extend_from_slice(&strings);
    Ok(Stack { sp, bytes, args: (at(arg_start), at(arg_end)), env: (at(env_start), at(env_end)), auxv })
}
