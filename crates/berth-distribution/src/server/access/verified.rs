//! Passwords that were right a while ago: bcrypt is slow on purpose, and clients show their password
//! with every request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};

/// How long a password is taken for right.
const LIFETIME: Duration = Duration::from_secs(300);
/// Passwords that are remembered.
const MOST: usize = 4096;

/// What was verified, by a hash over name, password and the user's bcrypt hash: a new password makes a
/// new key.
#[derive(Default)]
pub(crate) struct Verified(Mutex<HashMap<[u8; 32], Instant>>);

impl Verified {
    pub(crate) fn has(&self, name: &str, password: &str, hash: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&key(name, password, hash))
            .is_some_and(|at| at.elapsed() < LIFETIME)
    }

    pub(crate) fn remember(&self, name: &str, password: &str, hash: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, at| at.elapsed() < LIFETIME);
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key(name, password, hash), Instant::now());
    }
}

fn key(name: &str, password: &str, hash: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [name, password, hash] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}
