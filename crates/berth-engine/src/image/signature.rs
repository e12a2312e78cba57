//! Signatures of images and other statements about them, in their registry.

use berth_distribution::Credentials;
use berth_distribution::signature::{Form, NewSignature, PublicKey};
use berth_spec::docker::image::{ImageAttestation, ImageSigned, SignatureAdd, SignatureCheck};
use berth_spec::{Digest, Reference};
use data_encoding::BASE64;

use crate::{Engine, Error, Result};

/// Keys that may be given at once.
const KEYS_MAX: usize = 32;

fn reference(name: &str) -> Result<Reference> {
    let name: Reference = name.parse().map_err(|e| Error::invalid(format!("{e}")))?;
    Ok(name.or_latest())
}

/// Looks in the registry for a signature of an image by one of the keys, or by one of those that the policy
/// wants.
pub async fn verify_signature(
    engine: &Engine,
    name: &str,
    check: SignatureCheck,
    auth: Option<&Credentials>,
) -> Result<ImageSigned> {
    if check.keys.len() > KEYS_MAX {
        return Err(Error::invalid(format!("more than {KEYS_MAX} keys")));
    }
    let keys = check
        .keys
        .iter()
        .map(|text| PublicKey::parse(text).map_err(|e| Error::invalid(format!("key: {e}"))))
        .collect::<Result<Vec<_>>>()?;
    let keys = (!keys.is_empty()).then_some(&keys[..]);
    let signed = engine
        .0
        .client
        .verify_signature(&reference(name)?, keys, auth)
        .await?;
    Ok(ImageSigned {
        digest: signed.digest.to_string(),
        form: match signed.form {
            Form::Simple => "simple",
            Form::Bundle => "bundle",
        }
        .to_owned(),
        key: signed.key,
    })
}

/// Puts a signature that the client has made beside the image in its registry.
pub async fn add_signature(
    engine: &Engine,
    name: &str,
    add: SignatureAdd,
    auth: Option<&Credentials>,
) -> Result<()> {
    let digest: Digest = add
        .digest
        .parse()
        .map_err(|_| Error::invalid(format!("invalid digest {:?}", add.digest)))?;
    let decode = |text: &str| {
        let decoded = BASE64.decode(text.as_bytes());
        decoded.map_err(|e| Error::invalid(format!("invalid base64: {e}")))
    };
    let new = match add.bundle.is_empty() {
        false => NewSignature::Bundle(decode(&add.bundle)?),
        true => NewSignature::Simple {
            payload: decode(&add.payload)?,
            signature: decode(&add.signature)?,
        },
    };
    let client = &engine.0.client;
    client
        .attach_signature(&reference(name)?, &digest, &new, auth)
        .await?;
    Ok(())
}

/// What the registry has beside the image: provenance, SBOM, signatures.
pub async fn attestations(
    engine: &Engine,
    name: &str,
    auth: Option<&Credentials>,
) -> Result<Vec<ImageAttestation>> {
    let found = engine
        .0
        .client
        .attestations(&reference(name)?, auth)
        .await?;
    Ok(found
        .into_iter()
        .map(|found| ImageAttestation {
            kind: found.kind.to_owned(),
            type_name: found.type_name,
            subject: found.subject.to_string(),
            platform: found.platform.unwrap_or_default(),
            digest: found.digest.to_string(),
            size: found.size,
        })
        .collect())
}
