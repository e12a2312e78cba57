//! The on-disk structures, as far as an uncompressed index image needs them (`fs/erofs/erofs_fs.h`).

/// Block size of an index image: that of a tar.
pub(crate) const BLOCK: u64 = 512;
pub(crate) const BLOCK_BITS: u8 = 9;

const MAGIC: u32 = 0xE0F5_E1E2;
pub(crate) const SUPER_OFFSET: u64 = 1024;
pub(crate) const SUPER_SIZE: u64 = 128;
pub(crate) const DEVICE_SLOT_SIZE: u64 = 128;
/// Inodes are named by their offset in units of this size.
pub(crate) const SLOT: u64 = 32;
pub(crate) const INODE_SIZE: u64 = 64;
pub(crate) const DIRENT_SIZE: usize = 12;
pub(crate) const CHUNK_INDEX_SIZE: u64 = 8;
pub(crate) const XATTR_HEADER_SIZE: usize = 12;
pub(crate) const XATTR_ENTRY_SIZE: usize = 4;

const COMPAT_MTIME: u32 = 0x2;
const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;

/// How an inode's data is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Whole blocks from a block address of the primary device.
    Plain = 0,
    /// The data follow the inode, within one block.
    Inline = 2,
    /// Chunk indexes follow the inode.
    Chunks = 4,
}

/// `erofs_super_block`, without what stays zero.
pub(crate) struct Super {
    pub(crate) root_nid: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) devices: u16,
}

impl Super {
    pub(crate) fn to_bytes(&self) -> [u8; SUPER_SIZE as usize] {
        let mut out = [0; SUPER_SIZE as usize];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(8, &COMPAT_MTIME.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(48, &self.uuid);
        let incompat = INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE;
        put(80, &incompat.to_le_bytes());
        put(86, &self.devices.to_le_bytes());
        let slots = (SUPER_OFFSET + SUPER_SIZE) / DEVICE_SLOT_SIZE;
        put(88, &(slots as u16).to_le_bytes());
        out
    }
}

/// `erofs_deviceslot`: `tag` names the device's content (cut at 64 bytes).
pub(crate) fn device_slot(tag: &str, blocks: u64) -> [u8; DEVICE_SLOT_SIZE as usize] {
    let mut out = [0; DEVICE_SLOT_SIZE as usize];
    let tag = &tag.as_bytes()[..tag.len().min(64)];
    out[..tag.len()].copy_from_slice(tag);
    out[64..68].copy_from_slice(&(blocks as u32).to_le_bytes());
    out
}

/// `erofs_inode_extended`.
pub(crate) struct Inode {
    pub(crate) layout: Layout,
    pub(crate) xattr_count: u16,
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// Block address, chunk format or device number, as the layout and the mode say.
    pub(crate) union: u32,
    pub(crate) number: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) nanoseconds: u32,
    pub(crate) links: u32,
}

impl Inode {
    pub(crate) fn to_bytes(&self) -> [u8; INODE_SIZE as usize] {
        let mut out = [0; INODE_SIZE as usize];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let format = 1 | ((self.layout as u16) << 1);
        put(0, &format.to_le_bytes());
        put(2, &self.xattr_count.to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.union.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime.to_le_bytes());
        put(40, &self.nanoseconds.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        out
    }
}

/// The chunk format word: chunks of 2^`bits` bytes, found by indexes.
pub(crate) fn chunk_format(bits: u8) -> u32 {
    const INDEXES: u32 = 0x20;
    u32::from(bits - BLOCK_BITS) | INDEXES
}

/// The smallest chunk that holds `size` bytes, in bits; the format stops at 2^40 bytes.
pub(crate) fn chunk_bits(size: u64) -> u8 {
    let bits = (64 - size.saturating_sub(1).leading_zeros()) as u8;
    bits.clamp(BLOCK_BITS, BLOCK_BITS + 31)
}

/// `erofs_inode_chunk_index`.
pub(crate) fn chunk_index(device: u16, block: u32) -> [u8; CHUNK_INDEX_SIZE as usize] {
    let mut out = [0; CHUNK_INDEX_SIZE as usize];
    out[2..4].copy_from_slice(&device.to_le_bytes());
    out[4..8].copy_from_slice(&block.to_le_bytes());
    out
}

/// `erofs_dirent`; the file type is one of [`file_type`].
pub(crate) fn dirent(nid: u64, name_offset: u16, file_type: u8) -> [u8; DIRENT_SIZE] {
    let mut out = [0; DIRENT_SIZE];
    out[..8].copy_from_slice(&nid.to_le_bytes());
    out[8..10].copy_from_slice(&name_offset.to_le_bytes());
    out[10] = file_type;
    out
}

/// `EROFS_FT_*`, which are the generic `FT_*` of the kernel.
pub(crate) mod file_type {
    pub(crate) const FILE: u8 = 1;
    pub(crate) const DIRECTORY: u8 = 2;
    pub(crate) const CHAR: u8 = 3;
    pub(crate) const BLOCK: u8 = 4;
    pub(crate) const FIFO: u8 = 5;
    pub(crate) const SYMLINK: u8 = 7;
}

/// `i_xattr_icount` for that many bytes of xattr body (0 when there is none).
pub(crate) fn xattr_count(bytes: usize) -> u16 {
    match bytes {
        0 => 0,
        bytes => ((bytes - XATTR_HEADER_SIZE) / 4 + 1) as u16,
    }
}

/// The name of an xattr as EROFS stores it: index of the prefix and the rest, or `None` for a
/// namespace that it cannot hold.
pub(crate) fn xattr_name(name: &[u8]) -> Option<(u8, &[u8])> {
    const PREFIXES: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];
    match name {
        b"system.posix_acl_access" => return Some((2, b"")),
        b"system.posix_acl_default" => return Some((3, b"")),
        _ => {}
    }
    PREFIXES.iter().find_map(|(index, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        (!rest.is_empty() && rest.len() <= 255).then_some((*index, rest))
    })
}
