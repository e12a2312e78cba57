//! From a [`Tree`] to the bytes of an index image.
//!
//! Two passes: [`place`] decides where each inode and each directory block goes, [`Body`] gives out the
//! bytes in that order, from the first to the last, so that no image is ever whole in memory. Inodes
//! come in breadth-first order, so that listing a directory reads neighbouring blocks; the blocks of
//! large directories and long link targets follow behind all inodes.

use std::io::{self, BufWriter, Write};

use super::format::{self, BLOCK, DIRENT_SIZE, INODE_SIZE, Inode, Layout, SLOT, Super, file_type};
use super::tree::{Data, Id, Kind, ROOT, Tree, Xattrs};

/// Bytes given out at a time.
const OUT: usize = 128 << 10;

/// The devices that hold the files' bytes.
pub(crate) struct Devices<'a> {
    /// What names the tar, usually its hash in hexadecimal.
    pub(crate) tag: &'a str,
    /// Length of the tar, in bytes.
    pub(crate) tar: u64,
    /// Length of the side file in bytes, if there is one.
    pub(crate) side: Option<u64>,
}

/// Writes the image of `tree`, padded to whole blocks, and returns its length in bytes.
///
/// Fails when the tree does not fit the format (more than 2^32 blocks of data or of index), or as
/// `out` fails.
pub(crate) fn write(tree: &Tree, devices: &Devices<'_>, out: &mut dyn Write) -> io::Result<u64> {
    let order = tree.breadth_first();
    let plan = place(tree, &order, devices)?;
    let body = Body {
        tree,
        order: &order,
        plan: &plan,
    };
    let mut head = vec![0; format::SUPER_OFFSET as usize];
    let count = 1 + u16::from(devices.side.is_some());
    let super_block = Super {
        root_nid: plan.nid(ROOT) as u16,
        inodes: order.len() as u64,
        blocks: blocks_u32(plan.end, "index")?,
        uuid: body.uuid(devices)?,
        devices: count,
    };
    head.extend(super_block.to_bytes());
    head.extend(format::device_slot(
        devices.tag,
        u64::from(blocks_u32(devices.tar, "tar")?),
    ));
    if let Some(side) = devices.side {
        head.extend(format::device_slot(
            "side",
            u64::from(blocks_u32(side, "side file")?),
        ));
    }
    let mut out = BufWriter::with_capacity(OUT, out);
    out.write_all(&head)?;
    let mut out = Positioned {
        out: &mut out,
        at: head.len() as u64,
    };
    body.give(&mut out)?;
    out.out.flush()?;
    Ok(plan.end)
}

fn blocks_u32(bytes: u64, what: &str) -> io::Result<u32> {
    u32::try_from(bytes.div_ceil(BLOCK))
        .map_err(|_| io::Error::other(format!("{what} of {bytes} bytes is too large for EROFS")))
}

/// Where everything goes.
struct Plan {
    /// The slot of each inode that has a name.
    slots: Vec<u32>,
    /// The inodes that have blocks of their own and where these begin, in the order of the inodes.
    blocks: Vec<(Id, u64)>,
    /// Length of the image, a multiple of the block size.
    end: u64,
}

impl Plan {
    /// The number of a node that has a name; all others are never asked for.
    fn nid(&self, id: Id) -> u64 {
        self.slots[Tree::index(id)].into()
    }
}

/// What decides how much room an inode takes.
struct Shape {
    /// Bytes of the extended attributes, which follow the inode.
    xattrs: u64,
    /// `i_size`.
    size: u64,
    /// The chunk indexes that follow, for files.
    chunks: u64,
    /// Whether its data are in the index.
    holds_data: bool,
}

impl Shape {
    fn of(tree: &Tree, id: Id) -> Shape {
        let node = tree.node(id);
        let (size, holds_data) = match &node.kind {
            Kind::Directory(_) => (directory_size(tree, id), true),
            Kind::Symlink(target) => (target.len() as u64, !target.is_empty()),
            Kind::File { size, .. } => (*size, false),
            _ => (0, false),
        };
        let chunks = match &node.kind {
            Kind::File { size, .. } if *size > 0 => size.div_ceil(1 << format::chunk_bits(*size)),
            _ => 0,
        };
        Shape {
            xattrs: xattr_size(&node.attributes.xattrs) as u64,
            size,
            chunks,
            holds_data,
        }
    }
}

fn place(tree: &Tree, order: &[Id], devices: &Devices<'_>) -> io::Result<Plan> {
    let devices = 1 + u64::from(devices.side.is_some());
    let mut at = format::SUPER_OFFSET + format::SUPER_SIZE + devices * format::DEVICE_SLOT_SIZE;
    let mut slots = vec![0; tree.len()];
    let mut with_blocks = Vec::new();
    for id in order {
        let shape = Shape::of(tree, *id);
        let head = INODE_SIZE + shape.xattrs;
        let mut offset = at;
        if shape.chunks > 0 {
            at = (at + head).next_multiple_of(format::CHUNK_INDEX_SIZE)
                + shape.chunks * format::CHUNK_INDEX_SIZE;
        } else if shape.holds_data
            && shape.size <= BLOCK
            && let Some(inline) = inline_offset(at, head, shape.size)
        {
            offset = inline;
            at = inline + head + shape.size;
        } else {
            at += head;
            if shape.holds_data {
                with_blocks.push((*id, shape.size));
            }
        }
        at = at.next_multiple_of(SLOT);
        slots[Tree::index(*id)] = u32::try_from(offset / SLOT)
            .map_err(|_| io::Error::other("the index is too large for EROFS"))?;
    }
    for (_, size) in &mut with_blocks {
        at = at.next_multiple_of(BLOCK);
        at += std::mem::replace(size, at);
    }
    let end = at.next_multiple_of(BLOCK);
    blocks_u32(end, "index")?;
    Ok(Plan {
        slots,
        blocks: with_blocks,
        end,
    })
}

/// The next offset where an inode's inline data do not cross a block, which EROFS asks for.
fn inline_offset(at: u64, head: u64, size: u64) -> Option<u64> {
    (0..BLOCK / SLOT)
        .map(|slot| at + slot * SLOT)
        .find(|offset| (offset + head) % BLOCK + size <= BLOCK)
}

/// The names of a directory as they are stored: with `.` and `..`, sorted by their bytes.
fn names(tree: &Tree, dir: Id) -> impl Iterator<Item = (&[u8], Id)> {
    let mut own = [(&b"."[..], dir), (b"..", tree.parent(dir))]
        .into_iter()
        .peekable();
    let mut others = tree.entries(dir).peekable();
    std::iter::from_fn(move || match (own.peek(), others.peek()) {
        (Some((dots, _)), Some((name, _))) if name < dots => others.next(),
        (Some(_), _) => own.next(),
        (None, _) => others.next(),
    })
}

/// Cuts sorted names into directory blocks: in each, the entries first, then the names.
fn each_block<'a>(
    names: impl Iterator<Item = (&'a [u8], Id)>,
    mut each: impl FnMut(&[(&'a [u8], Id)]) -> io::Result<()>,
) -> io::Result<()> {
    let mut block = Vec::new();
    let mut used = 0;
    for (name, id) in names {
        let need = DIRENT_SIZE + name.len();
        if used + need > BLOCK as usize {
            each(&block)?;
            block.clear();
            used = 0;
        }
        used += need;
        block.push((name, id));
    }
    each(&block)
}

fn directory_size(tree: &Tree, dir: Id) -> u64 {
    // As `each_block` does, without the blocks.
    let (mut whole, mut used) = (0, 0);
    for (name, _) in names(tree, dir) {
        let need = (DIRENT_SIZE + name.len()) as u64;
        if used + need > BLOCK {
            whole += 1;
            used = 0;
        }
        used += need;
    }
    whole * BLOCK + used
}

fn xattr_size(xattrs: &Xattrs) -> usize {
    let entries: usize = xattrs
        .iter()
        .filter_map(|(name, value)| {
            let (_, rest) = format::xattr_name(name)?;
            Some((format::XATTR_ENTRY_SIZE + rest.len() + value.len()).next_multiple_of(4))
        })
        .sum();
    match entries {
        0 => 0,
        entries => format::XATTR_HEADER_SIZE + entries,
    }
}

fn xattr_body(xattrs: &Xattrs) -> Vec<u8> {
    let mut out = vec![0; format::XATTR_HEADER_SIZE];
    for (name, value) in xattrs.iter() {
        let Some((index, rest)) = format::xattr_name(name) else {
            continue;
        };
        out.extend([rest.len() as u8, index]);
        out.extend((value.len() as u16).to_le_bytes());
        out.extend(rest);
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// Takes bytes from the first to the last, and knows where it is.
struct Positioned<'a> {
    out: &'a mut dyn Write,
    at: u64,
}

impl Positioned<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Zeros up to `to`.
    fn pad(&mut self, to: u64) -> io::Result<()> {
        const ZEROS: [u8; 512] = [0; 512];
        while self.at < to {
            let n = (to - self.at).min(ZEROS.len() as u64) as usize;
            self.put(&ZEROS[..n])?;
        }
        Ok(())
    }
}

/// All that follows the head.
struct Body<'a> {
    tree: &'a Tree,
    order: &'a [Id],
    plan: &'a Plan,
}

impl Body<'_> {
    fn give(&self, out: &mut Positioned<'_>) -> io::Result<()> {
        let mut blocks = self.plan.blocks.iter().peekable();
        for (number, id) in self.order.iter().enumerate() {
            let own = blocks.next_if(|(next, _)| next == id).map(|(_, at)| *at);
            out.pad(self.plan.nid(*id) * SLOT)?;
            self.give_inode(*id, number as u32 + 1, own, out)?;
        }
        for (id, at) in &self.plan.blocks {
            out.pad(*at)?;
            self.give_data(*id, out)?;
        }
        out.pad(self.plan.end)
    }

    /// The inode and what follows it; `blocks` is where its data are, if they do not follow it.
    fn give_inode(
        &self,
        id: Id,
        number: u32,
        blocks: Option<u64>,
        out: &mut Positioned<'_>,
    ) -> io::Result<()> {
        let node = self.tree.node(id);
        let shape = Shape::of(self.tree, id);
        let layout = match (shape.chunks, shape.holds_data, blocks) {
            (1.., _, _) => Layout::Chunks,
            (0, true, None) => Layout::Inline,
            _ => Layout::Plain,
        };
        let mut union = blocks_u32(blocks.unwrap_or(0), "index")?;
        let mut links = node.names;
        let kind_bits = match &node.kind {
            Kind::Directory(_) => {
                let below = self.tree.entries(id);
                let below = below.filter(|(_, child)| self.tree.node(*child).is_directory());
                links = 2 + below.count() as u32;
                0o040_000
            }
            Kind::File { size, .. } => {
                if layout == Layout::Chunks {
                    union = format::chunk_format(format::chunk_bits(*size));
                }
                0o100_000
            }
            Kind::Symlink(_) => 0o120_000,
            Kind::Char { major, minor } => {
                union = device_number(*major, *minor);
                0o020_000
            }
            Kind::Block { major, minor } => {
                union = device_number(*major, *minor);
                0o060_000
            }
            Kind::Fifo => 0o010_000,
        };
        let inode = Inode {
            layout,
            xattr_count: format::xattr_count(shape.xattrs as usize),
            mode: kind_bits | (node.attributes.mode & 0o7777),
            size: shape.size,
            union,
            number,
            uid: node.attributes.uid,
            gid: node.attributes.gid,
            mtime: node.attributes.mtime,
            nanoseconds: node.attributes.nanoseconds,
            links,
        };
        out.put(&inode.to_bytes())?;
        if shape.xattrs > 0 {
            out.put(&xattr_body(&node.attributes.xattrs))?;
        }
        match (layout, &node.kind) {
            (Layout::Chunks, Kind::File { size, data }) => {
                out.pad(out.at.next_multiple_of(format::CHUNK_INDEX_SIZE))?;
                give_chunks(*size, *data, out)
            }
            (Layout::Inline, _) => self.give_data(id, out),
            _ => Ok(()),
        }
    }

    /// What the index holds of an inode's data.
    fn give_data(&self, id: Id, out: &mut Positioned<'_>) -> io::Result<()> {
        match &self.tree.node(id).kind {
            Kind::Directory(_) => self.give_directory(id, out),
            Kind::Symlink(target) => out.put(target),
            _ => Ok(()),
        }
    }

    fn give_directory(&self, dir: Id, out: &mut Positioned<'_>) -> io::Result<()> {
        let begin = out.at;
        let mut number = 0;
        each_block(names(self.tree, dir), |block| {
            out.pad(begin + number * BLOCK)?;
            number += 1;
            let mut name_offset = block.len() * DIRENT_SIZE;
            for (name, id) in block {
                let kind = dirent_type(self.tree, *id);
                out.put(&format::dirent(
                    self.plan.nid(*id),
                    name_offset as u16,
                    kind,
                ))?;
                name_offset += name.len();
            }
            block.iter().try_for_each(|(name, _)| out.put(name))
        })
    }

    /// An identity that follows from the content, so that equal layers give equal images.
    fn uuid(&self, devices: &Devices<'_>) -> io::Result<[u8; 16]> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(devices.tag.as_bytes());
        {
            let mut out = BufWriter::with_capacity(OUT, &mut hasher);
            let mut body = Positioned {
                out: &mut out,
                at: 0,
            };
            // The head counts as zeros.
            self.give(&mut body)?;
            out.flush()?;
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        uuid[6] = (uuid[6] & 0x0f) | 0x80; // version 8: "custom"
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        Ok(uuid)
    }
}

fn give_chunks(size: u64, data: Data, out: &mut Positioned<'_>) -> io::Result<()> {
    let (device, first) = match data {
        Data::None => return Err(io::Error::other("a file with a size has no data")),
        Data::Tar(block) => (1, block),
        Data::Side(block) => (2, block),
    };
    let bits = format::chunk_bits(size);
    for chunk in 0..size.div_ceil(1 << bits) {
        let block = blocks_u32((first + ((chunk << bits) / BLOCK)) * BLOCK, "tar")?;
        out.put(&format::chunk_index(device, block))?;
    }
    Ok(())
}

fn dirent_type(tree: &Tree, id: Id) -> u8 {
    match tree.node(id).kind {
        Kind::Directory(_) => file_type::DIRECTORY,
        Kind::File { .. } => file_type::FILE,
        Kind::Symlink(_) => file_type::SYMLINK,
        Kind::Char { .. } => file_type::CHAR,
        Kind::Block { .. } => file_type::BLOCK,
        Kind::Fifo => file_type::FIFO,
    }
}

/// `new_encode_dev` of the kernel.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
