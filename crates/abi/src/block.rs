//! Block devices: loop(4), and the ioctl commands of every block device.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const LOOP_MAJOR: u32 = 7;
/// Of /dev/loop-control.
pub const MISC_MAJOR: u32 = 10;
pub const LOOP_CTRL_MINOR: u32 = 237;
/// Minor numbers end here.
pub const MINOR_MAX: u32 = (1 << 20) - 1;
/// What sizes and positions on a device are counted in.
pub const SECTOR: u64 = 512;

pub const LOOP_SET_FD: u32 = 0x4c00;
pub const LOOP_CLR_FD: u32 = 0x4c01;
pub const LOOP_SET_STATUS: u32 = 0x4c02;
pub const LOOP_GET_STATUS: u32 = 0x4c03;
pub const LOOP_SET_STATUS64: u32 = 0x4c04;
pub const LOOP_GET_STATUS64: u32 = 0x4c05;
pub const LOOP_CHANGE_FD: u32 = 0x4c06;
pub const LOOP_SET_CAPACITY: u32 = 0x4c07;
pub const LOOP_SET_DIRECT_IO: u32 = 0x4c08;
pub const LOOP_SET_BLOCK_SIZE: u32 = 0x4c09;
pub const LOOP_CONFIGURE: u32 = 0x4c0a;
pub const LOOP_CTL_ADD: u32 = 0x4c80;
pub const LOOP_CTL_REMOVE: u32 = 0x4c81;
pub const LOOP_CTL_GET_FREE: u32 = 0x4c82;

pub const LO_FLAGS_READ_ONLY: u32 = 1;
pub const LO_FLAGS_AUTOCLEAR: u32 = 4;
pub const LO_FLAGS_PARTSCAN: u32 = 8;
pub const LO_FLAGS_DIRECT_IO: u32 = 16;
pub const LO_NAME_SIZE: usize = 64;
pub const LO_KEY_SIZE: usize = 32;

pub const BLKROSET: u32 = 0x125d;
pub const BLKROGET: u32 = 0x125e;
pub const BLKRRPART: u32 = 0x125f;
pub const BLKGETSIZE: u32 = 0x1260;
pub const BLKFLSBUF: u32 = 0x1261;
pub const BLKRASET: u32 = 0x1262;
pub const BLKRAGET: u32 = 0x1263;
pub const BLKFRASET: u32 = 0x1264;
pub const BLKFRAGET: u32 = 0x1265;
pub const BLKSECTGET: u32 = 0x1267;
pub const BLKSSZGET: u32 = 0x1268;
pub const BLKDISCARD: u32 = 0x1277;
pub const BLKIOMIN: u32 = 0x1278;
pub const BLKIOOPT: u32 = 0x1279;
pub const BLKALIGNOFF: u32 = 0x127a;
pub const BLKPBSZGET: u32 = 0x127b;
pub const BLKDISCARDZEROES: u32 = 0x127c;
pub const BLKSECDISCARD: u32 = 0x127d;
pub const BLKROTATIONAL: u32 = 0x127e;
pub const BLKZEROOUT: u32 = 0x127f;
pub const BLKGETDISKSEQ: u32 = 0x8008_1280;
pub const BLKBSZGET: u32 = 0x8008_1270;
pub const BLKBSZSET: u32 = 0x4008_1271;
pub const BLKGETSIZE64: u32 = 0x8008_1272;
/// How large the blocks of a file are.
pub const FIGETBSZ: u32 = 2;
pub const HDIO_GETGEO: u32 = 0x301;

/// `struct loop_info`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LoopInfo {
    pub number: i32,
    pub pad: u32,
    pub device: u64,
    pub inode: u64,
    pub rdevice: u64,
    pub offset: i32,
    pub encrypt_type: i32,
    pub encrypt_key_size: i32,
    pub flags: i32,
    pub name: [u8; LO_NAME_SIZE],
    pub encrypt_key: [u8; LO_KEY_SIZE],
    pub init: [u64; 2],
    pub reserved: [u8; 4],
    pub pad2: u32,
}

/// `struct loop_info64`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LoopInfo64 {
    pub device: u64,
    pub inode: u64,
    pub rdevice: u64,
    pub offset: u64,
    /// Bytes; 0: as much as there is.
    pub sizelimit: u64,
    pub number: u32,
    pub encrypt_type: u32,
    pub encrypt_key_size: u32,
    pub flags: u32,
    pub file_name: [u8; LO_NAME_SIZE],
    pub crypt_name: [u8; LO_NAME_SIZE],
    pub encrypt_key: [u8; LO_KEY_SIZE],
    pub init: [u64; 2],
}

/// `struct loop_config`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LoopConfig {
    pub fd: u32,
    /// Of the device, in bytes; 0: 512.
    pub block_size: u32,
    pub info: LoopInfo64,
    pub reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 168 && size_of::<LoopInfo64>() == 232 && size_of::<LoopConfig>() == 304);
