//! Proving a password without telling it: SCRAM-SHA-256 (RFC 5802, RFC 7677), as PostgreSQL wants it.

use std::num::NonZeroU32;

use aws_lc_rs::{hmac, pbkdf2};
use berth_store::hash::sha256;
use data_encoding::{BASE64, HEXLOWER};

/// Rounds that a server may ask for.
const ROUNDS_MAX: u32 = 1 << 20;

/// One proof.
pub(super) struct Scram {
    password: String,
    /// `n=,r=…`
    first: String,
    nonce: String,
    /// What the server must know; set with the proof.
    expected: Vec<u8>,
}

impl Scram {
    /// `nonce` is random, printable and has no comma.
    pub(super) fn new(password: &str, nonce: &str) -> Self {
        Self {
            password: password.to_owned(),
            // The server takes the user's name from its own protocol.
            first: format!("n=,r={nonce}"),
            nonce: nonce.to_owned(),
            expected: Vec::new(),
        }
    }

    /// The first message.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// The answer to the server's first message.
    pub(super) fn prove(&mut self, server: &str) -> Result<String, &'static str> {
        let (mut nonce, mut salt, mut rounds) = ("", Vec::new(), None);
        for field in server.split(',') {
            match field.split_once('=') {
                Some(("r", value)) => nonce = value,
                Some(("s", value)) => {
                    salt = BASE64.decode(value.as_bytes()).map_err(|_| "bad salt")?;
                }
                Some(("i", value)) => rounds = value.parse::<NonZeroU32>().ok(),
                _ => {}
            }
        }
        let rounds = rounds
            .filter(|rounds| rounds.get() <= ROUNDS_MAX)
            .ok_or("bad count of rounds")?;
        if !nonce.starts_with(&self.nonce) || nonce == self.nonce {
            return Err("bad nonce");
        }
        let mut salted = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds,
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server},{without_proof}", self.first);
        let client_key = mac(&salted, b"Client Key");
        let stored_key = HEXLOWER
            .decode(sha256(&client_key).hex().as_bytes())
            .map_err(|_| "bad hash")?;
        let proof: Vec<u8> = mac(&stored_key, signed.as_bytes())
            .iter()
            .zip(&client_key)
            .map(|(a, b)| a ^ b)
            .collect();
        self.expected = mac(&mac(&salted, b"Server Key"), signed.as_bytes());
        Ok(format!("{without_proof},p={}", BASE64.encode(&proof)))
    }

    /// Whether the server's last message shows that it knows the password.
    pub(super) fn is_known(&self, server: &str) -> bool {
        let told = server
            .strip_prefix("v=")
            .and_then(|text| BASE64.decode(text.trim().as_bytes()).ok());
        told.is_some_and(|told| !self.expected.is_empty() && told == self.expected)
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
        .as_ref()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3, whose first message names the user.
    #[test]
    fn the_proof_is_that_of_the_rfc() {
        let mut scram = Scram::new("pencil", "rOprNGfwEbeRWgbNEkqO");
        scram.first = "n=user,r=rOprNGfwEbeRWgbNEkqO".into();
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(
            scram.prove(server).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(scram.is_known("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!scram.is_known("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="));
        let again = Scram::new("pencil", "abc");
        assert!(!again.is_known("v="), "nothing was proved yet");
        assert!(Scram::new("x", "abc").prove("r=abc,s=QQ==,i=4096").is_err());
        assert!(
            Scram::new("x", "abc")
                .prove("r=abcd,s=QQ==,i=99999999")
                .is_err()
        );
    }
}
