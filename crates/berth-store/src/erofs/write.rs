//! From a [`Tree`] to the bytes of an index image.
//!
//! Two passes: [`place`] decides where each inode and each directory block goes, [`write`] puts the
//! bytes there. Inodes come in breadth-first order, so that listing a directory reads neighbouring
//! blocks; the blocks of large directories and long link targets follow behind all inodes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::format::{self, BLOCK, DIRENT_SIZE, INODE_SIZE, Inode, Layout, SLOT, Super, file_type};
use super::tree::{Data, Id, Kind, ROOT, Tree};

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
    let body = Body::build(tree, &order, &plan)?;
    let mut head = vec![0; format::SUPER_OFFSET as usize];
    let count = 1 + u16::from(devices.side.is_some());
    let super_block = Super {
        root_nid: (plan.of(ROOT).offset / SLOT) as u16,
        inodes: order.len() as u64,
        blocks: blocks_u32(plan.end, "index")?,
        uuid: body.uuid(devices),
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
    out.write_all(&head)?;
    out.write_all(&body.bytes[head.len()..])?;
    Ok(plan.end)
}

fn blocks_u32(bytes: u64, what: &str) -> io::Result<u32> {
    u32::try_from(bytes.div_ceil(BLOCK))
        .map_err(|_| io::Error::other(format!("{what} of {bytes} bytes is too large for EROFS")))
}

/// Where one inode goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    layout: Layout,
    /// Size of the xattr body that follows the inode.
    xattrs: u64,
    /// First byte of blocks of its own, for [`Layout::Plain`] with data.
    data: u64,
    /// `i_size`.
    size: u64,
}

struct Plan {
    places: Vec<Option<Place>>,
    /// Length of the image, a multiple of the block size.
    end: u64,
}

impl Plan {
    /// The place of a node that has a name; all others are never asked for.
    fn of(&self, id: Id) -> Place {
        self.places[Tree::index(id)].expect("every named node is placed")
    }
}

fn place(tree: &Tree, order: &[Id], devices: &Devices<'_>) -> io::Result<Plan> {
    let slots = 1 + u64::from(devices.side.is_some());
    let mut at = format::SUPER_OFFSET + format::SUPER_SIZE + slots * format::DEVICE_SLOT_SIZE;
    let mut places = vec![None; tree.len()];
    let mut with_blocks = Vec::new();
    for id in order {
        let node = tree.node(*id);
        let xattrs = xattr_size(&node.attributes.xattrs) as u64;
        let head = INODE_SIZE + xattrs;
        let (size, inline) = match &node.kind {
            Kind::Directory { .. } => {
                let size = directory_size(tree, *id);
                (size, size <= BLOCK)
            }
            Kind::Symlink(target) => (target.len() as u64, target.len() as u64 <= BLOCK),
            Kind::File { size, .. } => (*size, false),
            _ => (0, false),
        };
        let chunked = matches!(node.kind, Kind::File { size, .. } if size > 0);
        let mut place = Place {
            offset: at,
            layout: Layout::Plain,
            xattrs,
            data: 0,
            size,
        };
        if chunked {
            place.layout = Layout::Chunks;
            let indexes = size.div_ceil(1 << format::chunk_bits(size));
            at = (at + head).next_multiple_of(format::CHUNK_INDEX_SIZE)
                + indexes * format::CHUNK_INDEX_SIZE;
        } else if inline && let Some(offset) = inline_offset(at, head, size) {
            place.layout = Layout::Inline;
            place.offset = offset;
            at = offset + head + size;
        } else {
            at += head;
            if size > 0 {
                with_blocks.push(*id);
            }
        }
        at = at.next_multiple_of(SLOT);
        places[Tree::index(*id)] = Some(place);
    }
    for id in with_blocks {
        at = at.next_multiple_of(BLOCK);
        if let Some(place) = &mut places[Tree::index(id)] {
            place.data = at;
            at += place.size;
        }
    }
    let end = at.next_multiple_of(BLOCK);
    blocks_u32(end, "index")?;
    Ok(Plan { places, end })
}

/// The next offset where an inode's inline data do not cross a block, which EROFS asks for.
fn inline_offset(at: u64, head: u64, size: u64) -> Option<u64> {
    (0..BLOCK / SLOT)
        .map(|slot| at + slot * SLOT)
        .find(|offset| (offset + head) % BLOCK + size <= BLOCK)
}

/// The names of a directory as they are stored: with `.` and `..`, sorted by their bytes.
fn names(tree: &Tree, dir: Id) -> Vec<(&[u8], Id)> {
    let mut names = vec![(&b"."[..], dir), (b"..", tree.parent(dir))];
    names.extend(tree.entries(dir));
    names.sort_unstable_by_key(|(name, _)| *name);
    names
}

/// Cuts sorted names into directory blocks: in each, the entries first, then the names.
fn directory_blocks<'a, 'b>(names: &'b [(&'a [u8], Id)]) -> Vec<&'b [(&'a [u8], Id)]> {
    let mut blocks = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (i, (name, _)) in names.iter().enumerate() {
        let need = DIRENT_SIZE + name.len();
        if used + need > BLOCK as usize {
            blocks.push(&names[start..i]);
            (start, used) = (i, 0);
        }
        used += need;
    }
    blocks.push(&names[start..]);
    blocks
}

fn block_use(block: &[(&[u8], Id)]) -> usize {
    block.iter().map(|(name, _)| DIRENT_SIZE + name.len()).sum()
}

fn directory_size(tree: &Tree, dir: Id) -> u64 {
    let names = names(tree, dir);
    let blocks = directory_blocks(&names);
    let last = blocks.last().map_or(0, |block| block_use(block));
    (blocks.len() as u64 - 1) * BLOCK + last as u64
}

fn xattr_size(xattrs: &BTreeMap<Box<[u8]>, Box<[u8]>>) -> usize {
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

fn xattr_body(xattrs: &BTreeMap<Box<[u8]>, Box<[u8]>>) -> Vec<u8> {
    let mut out = vec![0; format::XATTR_HEADER_SIZE];
    for (name, value) in xattrs {
        let Some((index, rest)) = format::xattr_name(name) else {
            continue;
        };
        out.extend([rest.len() as u8, index]);
        out.extend((value.len() as u16).to_le_bytes());
        out.extend(rest);
        out.extend(&**value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// The image from its first byte on; the part of the super block is filled in by the caller.
struct Body {
    bytes: Vec<u8>,
}

impl Body {
    fn build(tree: &Tree, order: &[Id], plan: &Plan) -> io::Result<Body> {
        let mut body = Body {
            bytes: vec![0; plan.end as usize],
        };
        for (number, id) in order.iter().enumerate() {
            body.put_inode(tree, plan, *id, number as u32 + 1)?;
        }
        Ok(body)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_inode(&mut self, tree: &Tree, plan: &Plan, id: Id, number: u32) -> io::Result<()> {
        let node = tree.node(id);
        let place = plan.of(id);
        let after = place.offset + INODE_SIZE + place.xattrs;
        let data_at = match place.layout {
            Layout::Inline => after,
            _ => place.data,
        };
        let block = blocks_u32(data_at, "index")?;
        let mut union = if place.layout == Layout::Plain && place.size > 0 {
            block
        } else {
            0
        };
        let mut links = node.names;
        let kind_bits = match &node.kind {
            Kind::Directory { .. } => {
                links = 2 + tree
                    .entries(id)
                    .filter(|(_, child)| tree.node(*child).is_directory())
                    .count() as u32;
                self.put_directory(tree, plan, id, data_at);
                0o040_000
            }
            Kind::File { size, data } => {
                if place.layout == Layout::Chunks {
                    union = format::chunk_format(format::chunk_bits(*size));
                    self.put_chunks(after.next_multiple_of(8), *size, *data)?;
                }
                0o100_000
            }
            Kind::Symlink(target) => {
                self.put(data_at, target);
                0o120_000
            }
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
            layout: place.layout,
            xattr_count: format::xattr_count(place.xattrs as usize),
            mode: kind_bits | (node.attributes.mode & 0o7777),
            size: place.size,
            union,
            number,
            uid: node.attributes.uid,
            gid: node.attributes.gid,
            mtime: node.attributes.mtime,
            nanoseconds: node.attributes.nanoseconds,
            links,
        };
        self.put(place.offset, &inode.to_bytes());
        if place.xattrs > 0 {
            self.put(
                place.offset + INODE_SIZE,
                &xattr_body(&node.attributes.xattrs),
            );
        }
        Ok(())
    }

    fn put_chunks(&mut self, at: u64, size: u64, data: Data) -> io::Result<()> {
        let (device, first) = match data {
            Data::None => return Err(io::Error::other("a file with a size has no data")),
            Data::Tar(block) => (1, block),
            Data::Side(block) => (2, block),
        };
        let bits = format::chunk_bits(size);
        for chunk in 0..size.div_ceil(1 << bits) {
            let block = blocks_u32((first + ((chunk << bits) / BLOCK)) * BLOCK, "tar")?;
            self.put(
                at + chunk * format::CHUNK_INDEX_SIZE,
                &format::chunk_index(device, block),
            );
        }
        Ok(())
    }

    fn put_directory(&mut self, tree: &Tree, plan: &Plan, dir: Id, at: u64) {
        let names = names(tree, dir);
        for (i, block) in directory_blocks(&names).into_iter().enumerate() {
            let start = at + i as u64 * BLOCK;
            let mut name_offset = block.len() * DIRENT_SIZE;
            for (j, (name, id)) in block.iter().enumerate() {
                let nid = plan.of(*id).offset / SLOT;
                let entry = format::dirent(nid, name_offset as u16, dirent_type(tree, *id));
                self.put(start + (j * DIRENT_SIZE) as u64, &entry);
                self.put(start + name_offset as u64, name);
                name_offset += name.len();
            }
        }
    }

    /// An identity that follows from the content, so that equal layers give equal images.
    fn uuid(&self, devices: &Devices<'_>) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(devices.tag.as_bytes());
        hasher.update(&self.bytes);
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        uuid[6] = (uuid[6] & 0x0f) | 0x80; // version 8: "custom"
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        uuid
    }
}

fn dirent_type(tree: &Tree, id: Id) -> u8 {
    match tree.node(id).kind {
        Kind::Directory { .. } => file_type::DIRECTORY,
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
