//! What has to be built, and by which keys results are known. Pure.
//!
//! A *vertex* is one instruction on top of what the stage is so far. Its key covers everything its
//! result depends on, by content, and is known before anything is run: the diff IDs below it, the
//! instruction with its variables expanded, the hashes of what it reads. So a `RUN` whose inputs
//! did not change is found again, whatever labels came or went before it.

use berth_spec::Digest;

use crate::dockerfile::{Copy, Dockerfile, Expander, Instruction, Mount, Variables};
use crate::{Error, Result};

/// Which stages are needed, and on what they stand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What each stage of the file begins with, needed or not.
    pub(crate) bases: Vec<Base>,
    /// The needed stages in an order in which they can be built: the file's.
    pub(crate) order: Vec<usize>,
    /// The last of them.
    pub(crate) target: usize,
}

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image by name.
    Image(String),
}

/// Plans the way to `target` (a name, a number, or empty for the last stage).
pub(crate) fn plan(file: &Dockerfile, target: &str, globals: &Variables) -> Result<Plan> {
    let target = match target {
        "" => file.stages.len() - 1,
        name => find_target(file, name)?,
    };
    let expander = Expander::new(file.escape);
    let mut bases = Vec::new();
    for (index, stage) in file.stages[..=target].iter().enumerate() {
        let name = expander.word(&stage.base, globals)?;
        if name.is_empty() {
            return Err(Error::invalid(format!(
                "base name ({}) should not be blank",
                stage.base
            )));
        }
        bases.push(match stage_named(file, &name, index) {
            Some(earlier) => Base::Stage(earlier),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image(name),
        });
    }
    let mut needed = vec![false; target + 1];
    let mut pending = vec![target];
    while let Some(index) = pending.pop() {
        if std::mem::replace(&mut needed[index], true) {
            continue;
        }
        if let Base::Stage(base) = bases[index] {
            pending.push(base);
        }
        for command in &file.stages[index].commands {
            for name in sources(&command.instruction) {
                if let From::Stage(earlier) = from(file, name, index)? {
                    pending.push(earlier);
                }
            }
        }
    }
    Ok(Plan {
        bases,
        order: (0..=target).filter(|index| needed[*index]).collect(),
        target,
    })
}

fn find_target(file: &Dockerfile, target: &str) -> Result<usize> {
    let by_name = stage_named(file, target, file.stages.len());
    by_name
        .or_else(|| target.parse().ok().filter(|n| *n < file.stages.len()))
        .ok_or_else(|| Error::invalid(format!("target stage {target:?} could not be found")))
}

/// The last stage before `before` that has the name.
fn stage_named(file: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    file.stages[..before].iter().rposition(|stage| {
        stage
            .name
            .as_deref()
            .is_some_and(|n| n.eq_ignore_ascii_case(name))
    })
}

/// What `--from` and `from=` name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    Stage(usize),
    Image(String),
}

/// Looks `name` up as stage `current` sees it.
pub(crate) fn from(file: &Dockerfile, name: &str, current: usize) -> Result<From> {
    if let Some(stage) = stage_named(file, name, current) {
        return Ok(From::Stage(stage));
    }
    match name.parse::<usize>() {
        Ok(number) if number < current => Ok(From::Stage(number)),
        Ok(number) => {
            let why = if number == current {
                "refers to current build stage"
            } else {
                "index out of bounds"
            };
            Err(Error::invalid(format!(
                "invalid from flag value {name}: {why}"
            )))
        }
        Err(_) => {
            let own = file
                .stages
                .get(current)
                .and_then(|stage| stage.name.as_deref());
            if own.is_some_and(|own| own.eq_ignore_ascii_case(name)) {
                return Err(Error::invalid(format!(
                    "invalid from flag value {name}: refers to current build stage"
                )));
            }
            Ok(From::Image(name.to_owned()))
        }
    }
}

/// The names of stages or images that an instruction reads from.
pub(crate) fn sources(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Copy(Copy {
            from: Some(from), ..
        }) => vec![from],
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|Mount { from, .. }| from.as_deref())
            .collect(),
        _ => Vec::new(),
    }
}

/// Makes the key of a vertex from parts, each with its length, so that no two lists of parts give
/// the same bytes.
pub(crate) struct KeyMaker(blake3::Hasher);

impl KeyMaker {
    /// `kind` keeps instructions apart; it changes when the meaning of a result does.
    pub(crate) fn new(kind: &str) -> Self {
        let mut maker = KeyMaker(blake3::Hasher::new());
        maker.part(kind);
        maker
    }

    pub(crate) fn part(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn parts<T: AsRef<[u8]>>(&mut self, list: impl IntoIterator<Item = T>) -> &mut Self {
        let mut count = 0u64;
        for item in list {
            self.part(item);
            count += 1;
        }
        self.part(count.to_le_bytes())
    }

    pub(crate) fn layers(&mut self, layers: &[Digest]) -> &mut Self {
        self.parts(layers.iter().map(Digest::as_str))
    }

    pub(crate) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn planned(source: &str, target: &str) -> Result<Plan> {
        let file = parse(source, "Dockerfile").unwrap();
        let globals = Variables::from([("V".to_owned(), "3.9".to_owned())]);
        plan(&file, target, &globals)
    }

    #[test]
    fn only_what_the_target_needs() {
        let source = "FROM python:$V AS base\nFROM scratch AS unused\nFROM base AS app\nFROM alpine AS tools\n\
            FROM scratch\nCOPY --from=app /a /\nRUN --mount=from=3,target=/t x\nCOPY --from=busybox /b /\n";
        let all = planned(source, "").unwrap();
        assert_eq!(all.order, [0, 2, 3, 4]);
        assert_eq!(all.bases[0], Base::Image("python:3.9".into()));
        assert_eq!(all.bases[2], Base::Stage(0));
        assert_eq!(all.bases[4], Base::Scratch);
        assert_eq!(planned(source, "APP").unwrap().order, [0, 2]);
        assert_eq!(planned(source, "1").unwrap().order, [1]);
    }

    #[test]
    fn bad_references() {
        for (source, target, error) in [
            ("FROM a", "x", "target stage \"x\" could not be found"),
            ("FROM a", "1", "target stage \"1\" could not be found"),
            (
                "FROM $NOTHING",
                "",
                "base name ($NOTHING) should not be blank",
            ),
            (
                "FROM a\nCOPY --from=0 a b",
                "",
                "invalid from flag value 0: refers to current build stage",
            ),
            (
                "FROM a\nCOPY --from=7 a b",
                "",
                "invalid from flag value 7: index out of bounds",
            ),
            (
                "FROM a AS x\nCOPY --from=x a b",
                "",
                "invalid from flag value x: refers to current build stage",
            ),
        ] {
            assert_eq!(
                planned(source, target).unwrap_err().to_string(),
                error,
                "{source}"
            );
        }
        // A later stage of that name is none yet: the name is an image's.
        let plan = planned("FROM b AS a\nFROM scratch AS b\nCOPY --from=a / /", "").unwrap();
        assert_eq!(plan.bases[0], Base::Image("b".into()));
    }

    #[test]
    fn keys_keep_parts_apart() {
        let key = |parts: &[&str]| KeyMaker::new("k").parts(parts).finish();
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
    }
}
