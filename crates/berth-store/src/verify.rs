//! Whether everything on disk still is what its name says: every digest is computed again.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};

use berth_spec::Digest;
use berth_spec::oci::image::CONFIG_MAX;
use rusqlite::Connection;

use crate::hash::Hasher;
use crate::images::parse_config;
use crate::{Error, Lease, Result, Store};

const CHUNK: usize = 256 << 10;

/// What is kept of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A blob, by its digest.
    Blob,
    /// A layer, by its diff ID.
    Layer,
}

/// Something that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    pub part: Part,
    pub digest: Digest,
    /// What is wrong with it, in words.
    pub problem: String,
}

/// What was found out about an image, or about all that belongs to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// None for what belongs to no image: the build cache, layers of containers whose image has gone.
    pub image: Option<Digest>,
    /// Its names.
    pub names: Vec<String>,
    /// Layers and blobs that were looked at.
    pub layers: usize,
    pub blobs: usize,
    pub damage: Vec<Damage>,
}

impl Store {
    /// Computes all digests of these images again: config, manifest, compressed and plain layers; and
    /// compares the index (or directory) of each layer with its tar. Without images, all that is
    /// there is looked at. Nothing is changed.
    pub fn verify(&self, images: &[Digest]) -> Result<Vec<Verified>> {
        let mut scrub = Scrub {
            store: self,
            lease: self.lease()?,
            known: HashMap::new(),
        };
        let all = self.db().read(image_ids)?;
        let mut verified = Vec::new();
        for (id, names) in all {
            if images.is_empty() || images.contains(&id) {
                verified.push(scrub.image(id, names)?);
            }
        }
        if images.is_empty() {
            let rest = scrub.rest()?;
            if rest.layers + rest.blobs > 0 {
                verified.push(rest);
            }
        }
        Ok(verified)
    }
}

/// Images with their names; one whose config cannot be read is among them.
fn image_ids(c: &Connection) -> rusqlite::Result<Vec<(Digest, Vec<String>)>> {
    let mut statement = c.prepare_cached("SELECT id FROM image ORDER BY added, id")?;
    let ids: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut names = c.prepare_cached(
        "SELECT name FROM image_name WHERE image = ?1 AND kind = 'tag' ORDER BY name",
    )?;
    let mut found = Vec::new();
    for id in ids {
        let names = names
            .query_map([&id], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        if let Ok(id) = id.parse() {
            found.push((id, names));
        }
    }
    Ok(found)
}

struct Scrub<'a> {
    store: &'a Store,
    /// Holds what is being looked at.
    lease: Lease,
    /// What images share is looked at once.
    known: HashMap<(Part, Digest), Option<String>>,
}

impl Scrub<'_> {
    fn image(&mut self, id: Digest, names: Vec<String>) -> Result<Verified> {
        let mut parts = BTreeSet::from([(Part::Blob, id.clone())]);
        let rows = self.store.db().read(|c| parts_of(c, &id))?;
        parts.extend(rows);
        // What the config names and the record does not tell of is missed too.
        let config = self.store.content().read(&id, CONFIG_MAX);
        if let Ok(config) = config.and_then(|bytes| parse_config(&bytes)) {
            let layers = config.rootfs.diff_ids.into_iter();
            parts.extend(layers.map(|diff_id| (Part::Layer, diff_id)));
        }
        self.look(Some(id), names, parts)
    }

    /// What none of the images looked at before has.
    fn rest(&mut self) -> Result<Verified> {
        let layers = self.store.db().read(|c| {
            c.prepare_cached("SELECT diff_id FROM layer")?
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let layers = layers.iter().filter_map(|id| id.parse().ok());
        let blobs = self.store.content().list()?.into_iter();
        let parts = blobs
            .map(|(digest, _)| (Part::Blob, digest))
            .chain(layers.map(|diff_id| (Part::Layer, diff_id)))
            .filter(|part| !self.known.contains_key(part))
            .collect();
        self.look(None, Vec::new(), parts)
    }

    fn look(
        &mut self,
        image: Option<Digest>,
        names: Vec<String>,
        parts: BTreeSet<(Part, Digest)>,
    ) -> Result<Verified> {
        let mut verified = Verified {
            image,
            names,
            layers: 0,
            blobs: 0,
            damage: Vec::new(),
        };
        for (part, digest) in parts {
            if part == Part::Blob && self.may_be_absent(&verified, &digest)? {
                continue;
            }
            match part {
                Part::Blob => verified.blobs += 1,
                Part::Layer => verified.layers += 1,
            }
            if let Some(problem) = self.problem(part, &digest)? {
                verified.damage.push(Damage {
                    part,
                    digest,
                    problem,
                });
            }
        }
        verified.damage.sort();
        Ok(verified)
    }

    /// Compressed layers are kept as long as there is room; config and manifest always.
    fn may_be_absent(&self, of: &Verified, digest: &Digest) -> Result<bool> {
        self.lease.hold_blob(digest);
        if self.store.content().info(digest)?.is_some() {
            return Ok(false);
        }
        let needed = match &of.image {
            None => false,
            Some(id) if id == digest => true,
            Some(id) => self.store.db().read(|c| {
                c.prepare_cached("SELECT 1 FROM image WHERE id = ?1 AND manifest_digest = ?2")?
                    .exists([id.as_str(), digest.as_str()])
            })?,
        };
        Ok(!needed)
    }

    fn problem(&mut self, part: Part, digest: &Digest) -> Result<Option<String>> {
        let key = (part, digest.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let problem = match part {
            Part::Blob => self.blob(digest),
            Part::Layer => {
                self.lease.hold_layer(digest);
                self.store.layers().recheck(digest)?
            }
        };
        self.known.insert(key, problem.clone());
        Ok(problem)
    }

    fn blob(&self, digest: &Digest) -> Option<String> {
        let read = || -> io::Result<Digest> {
            let mut file = self.store.content().open(digest).map_err(io::Error::from)?;
            let mut hasher = Hasher::with(digest.algorithm());
            let mut chunk = vec![0; CHUNK];
            loop {
                match file.read(&mut chunk)? {
                    0 => return Ok(hasher.finish()),
                    n => hasher.update(&chunk[..n]),
                }
            }
        };
        match read() {
            Ok(found) if found == *digest => None,
            Ok(found) => Some(format!("its bytes have the digest {found}")),
            Err(error) => Some(Error::io("it cannot be read", error).to_string()),
        }
    }
}

/// The layers of an image, and the blobs that its layers and its manifest are known as.
fn parts_of(c: &Connection, id: &Digest) -> rusqlite::Result<Vec<(Part, Digest)>> {
    let mut statement = c.prepare_cached(
        "SELECT 'layer', diff_id FROM image_layer WHERE image = ?1
         UNION SELECT 'blob', b.digest FROM image_layer i JOIN layer_blob b ON b.diff_id = i.diff_id
               WHERE i.image = ?1
         UNION SELECT 'blob', manifest_digest FROM image
               WHERE id = ?1 AND manifest_digest IS NOT NULL",
    )?;
    let rows = statement.query_map([id.as_str()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let (part, digest) = row?;
        if let Ok(digest) = digest.parse() {
            let part = match part.as_str() {
                "layer" => Part::Layer,
                _ => Part::Blob,
            };
            found.push((part, digest));
        }
    }
    Ok(found)
}
