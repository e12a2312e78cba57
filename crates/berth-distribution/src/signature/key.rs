//! Keys: public ones that signatures are verified by, private ones that make them.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    VerificationAlgorithm,
};
use data_encoding::{BASE64, BASE64_MIME_PERMISSIVE};

use crate::{Error, ErrorKind, Result};

/// Bytes that a key file may have.
pub const KEY_MAX: usize = 64 << 10;

/// What cosign signs by: the first for keys that it makes itself.
static ALGORITHMS: [&(dyn VerificationAlgorithm + 'static); 5] = [
    &ECDSA_P256_SHA256_ASN1,
    &ECDSA_P384_SHA256_ASN1,
    &ECDSA_P384_SHA384_ASN1,
    &ED25519,
    &RSA_PKCS1_2048_8192_SHA256,
];

/// A public key (`-----BEGIN PUBLIC KEY-----`): ECDSA over P-256 or P-384, Ed25519, or RSA.
#[derive(Clone)]
pub struct PublicKey {
    /// SubjectPublicKeyInfo.
    der: Vec<u8>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.hint())
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, why)
}

/// What stands between the lines of a PEM file, by the label of the first block.
fn pem(text: &str) -> Result<(String, Vec<u8>)> {
    let begin = text
        .split_once("-----BEGIN ")
        .and_then(|(_, rest)| rest.split_once("-----"));
    let Some((label, rest)) = begin else {
        return Err(invalid("it is no PEM file"));
    };
    let Some((body, _)) = rest.split_once(&format!("-----END {label}-----")) else {
        return Err(invalid("the PEM file does not end"));
    };
    let der = BASE64_MIME_PERMISSIVE
        .decode(body.trim().as_bytes())
        .map_err(|e| invalid(format!("the PEM file is damaged: {e}")))?;
    Ok((label.to_owned(), der))
}

impl PublicKey {
    /// Reads a PEM file.
    pub fn parse(text: &str) -> Result<PublicKey> {
        let (label, der) = pem(text)?;
        if label != "PUBLIC KEY" {
            return Err(invalid(format!("it holds a {label}, not a PUBLIC KEY")));
        }
        let known = |algorithm: &&'static (dyn VerificationAlgorithm + 'static)| {
            ParsedPublicKey::new(*algorithm, &der).is_ok()
        };
        if !ALGORITHMS.iter().any(known) {
            return Err(invalid("its kind of key is not known"));
        }
        Ok(PublicKey { der })
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        ALGORITHMS.iter().any(|algorithm| {
            ParsedPublicKey::new(*algorithm, &self.der)
                .is_ok_and(|key| key.verify_sig(message, signature).is_ok())
        })
    }

    /// What sigstore's bundles call it: the digest of its bytes.
    pub fn hint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        BASE64.encode(digest.as_ref())
    }
}

/// A private key, not encrypted: PKCS #8 (`PRIVATE KEY`), or `EC PRIVATE KEY` as openssl writes it.
pub struct PrivateKey {
    pair: Pair,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    /// Reads a PEM file.
    pub fn parse(text: &str) -> Result<PrivateKey> {
        let (label, der) = pem(text)?;
        if label.starts_with("ENCRYPTED") {
            return Err(invalid(format!(
                "it is encrypted ({label}): a key without a password is needed, such as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes"
            )));
        }
        let ecdsa =
            |algorithm| EcdsaKeyPair::from_private_key_der(algorithm, &der).map(Pair::Ecdsa);
        let pair = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .or_else(|_| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING))
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(Pair::Ed25519))
            .or_else(|_| RsaKeyPair::from_pkcs8(&der).map(Pair::Rsa))
            .map_err(|_| invalid(format!("its kind of {label} is not known")))?;
        Ok(PrivateKey { pair })
    }

    /// A signature over `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        let failed = |_| Error::new(ErrorKind::Internal, "the key cannot sign");
        Ok(match &self.pair {
            Pair::Ecdsa(pair) => pair
                .sign(&random, message)
                .map_err(failed)?
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                signature
            }
        })
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> Result<PublicKey> {
        let failed = |_| Error::new(ErrorKind::Internal, "the key has no public part");
        let der = match &self.pair {
            Pair::Ecdsa(pair) => pair
                .public_key()
                .as_der()
                .map_err(failed)?
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair
                .public_key()
                .as_der()
                .map_err(failed)?
                .as_ref()
                .to_vec(),
            Pair::Rsa(pair) => pair
                .public_key()
                .as_der()
                .map_err(failed)?
                .as_ref()
                .to_vec(),
        };
        Ok(PublicKey { der })
    }
}
