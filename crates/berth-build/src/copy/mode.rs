//! `--chmod`: octal, or `u=rwX,go=rX` as chmod(1) reads it.

use crate::{Error, Result};

/// What becomes of the permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModeChange {
    Exactly(u32),
    Symbolic(Vec<Clause>),
}

/// `u+rwx`: whose, how, what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    /// A mask over the three triplets.
    who: u32,
    operator: char,
    permissions: String,
}

impl ModeChange {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| bad())?;
            return if mode <= 0o7777 {
                Ok(ModeChange::Exactly(mode))
            } else {
                Err(bad())
            };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let split = part.find(['+', '-', '=']).ok_or_else(bad)?;
            let mut who = 0;
            for c in part[..split].chars() {
                who |= match c {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return Err(bad()),
                };
            }
            if who == 0 {
                who = 0o7777;
            }
            // Several operations may follow one another: `u=r+x`.
            let mut operator = None;
            for c in part[split..].chars() {
                match c {
                    '+' | '-' | '=' => {
                        operator = Some(c);
                        clauses.push(Clause {
                            who,
                            operator: c,
                            permissions: String::new(),
                        });
                    }
                    'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o' if operator.is_some() => {
                        clauses.last_mut().ok_or_else(bad)?.permissions.push(c);
                    }
                    _ => return Err(bad()),
                }
            }
        }
        Ok(ModeChange::Symbolic(clauses))
    }

    pub(crate) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let clauses = match self {
            ModeChange::Exactly(mode) => return *mode,
            ModeChange::Symbolic(clauses) => clauses,
        };
        clauses
            .iter()
            .fold(mode, |mode, clause| clause.apply(mode, is_dir))
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let triplet = |bits: u32| bits << 6 | bits << 3 | bits;
        let mut bits = 0;
        for c in self.permissions.chars() {
            bits |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => triplet(mode >> 6 & 7),
                'g' => triplet(mode >> 3 & 7),
                'o' => triplet(mode & 7),
                _ => 0,
            };
        }
        let bits = bits & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !(self.who & if is_dir { 0o1777 } else { 0o7777 }) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        for (text, from, dir, to) in [
            ("755", 0o644, false, 0o755),
            ("0", 0o644, false, 0),
            ("4755", 0o644, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("o=", 0o777, false, 0o770),
        ] {
            assert_eq!(
                ModeChange::parse(text).unwrap().apply(from, dir),
                to,
                "{text}"
            );
        }
        for bad in ["", "9", "10000", "u", "z+r", "u+q", "755x"] {
            assert!(ModeChange::parse(bad).is_err(), "{bad}");
        }
    }
}
