//! What is signed: cosign's "simple signing" payload (specs/SIGNATURE_SPEC.md of cosign), and the
//! in-toto statement in a DSSE envelope that sigstore's bundle holds (protobuf-specs, `Bundle` v0.3).

use berth_spec::Digest;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::key::{PrivateKey, PublicKey};
use crate::{Error, ErrorKind, Result};

pub(super) const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub(super) const SIMPLE_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What all versions of the bundle begin with.
pub(super) const BUNDLES: &str = "application/vnd.dev.sigstore.bundle";
pub(super) const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const SIMPLE_TYPE: &str = "cosign container image signature";
const IN_TOTO: &str = "application/vnd.in-toto+json";

#[derive(Deserialize)]
struct SimplePayload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: SimpleImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SimpleImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// What is signed of the image `digest` in the repository `name`, in cosign's own order.
pub fn simple_payload(name: &str, digest: &Digest) -> Vec<u8> {
    let name = serde_json::Value::from(name);
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":{name}}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{SIMPLE_TYPE}"}},"optional":null}}"#
    )
    .into_bytes()
}

/// Whether `payload` is about the image `digest` and signed by one of `keys`; which.
pub(super) fn check_simple<'a>(
    payload: &[u8],
    signature: &str,
    digest: &Digest,
    keys: &'a [PublicKey],
) -> std::result::Result<&'a PublicKey, String> {
    let signature = BASE64
        .decode(signature.trim().as_bytes())
        .map_err(|e| format!("its signature is damaged: {e}"))?;
    // The signature first: what nobody vouches for is not read.
    let key = keys
        .iter()
        .find(|key| key.verifies(payload, &signature))
        .ok_or("no key fits its signature")?;
    let parsed: SimplePayload =
        serde_json::from_slice(payload).map_err(|e| format!("its payload is damaged: {e}"))?;
    if parsed.critical.kind != SIMPLE_TYPE {
        return Err(format!("it signs a {:?}", parsed.critical.kind));
    }
    if parsed.critical.image.digest != digest.as_str() {
        return Err(format!("it signs {}", parsed.critical.image.digest));
    }
    Ok(key)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(default)]
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

/// What a DSSE signature is over (secure-systems-lab/dsse, protocol.md, "PAE").
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend(payload);
    bytes
}

/// The same for a bundle.
pub(super) fn check_bundle<'a>(
    bundle: &[u8],
    digest: &Digest,
    keys: &'a [PublicKey],
) -> std::result::Result<&'a PublicKey, String> {
    let bundle: Bundle =
        serde_json::from_slice(bundle).map_err(|e| format!("the bundle is damaged: {e}"))?;
    let envelope = bundle
        .dsse_envelope
        .ok_or("the bundle holds no DSSE envelope")?;
    let decode = |text: &str| BASE64.decode(text.as_bytes());
    let payload = decode(&envelope.payload).map_err(|e| format!("its payload is damaged: {e}"))?;
    let signed = pre_authentication(&envelope.payload_type, &payload);
    let key = envelope
        .signatures
        .iter()
        .filter_map(|s| decode(&s.sig).ok())
        .find_map(|signature| keys.iter().find(|key| key.verifies(&signed, &signature)))
        .ok_or("no key fits its signature")?;
    if envelope.payload_type != IN_TOTO {
        return Err(format!("it signs a {:?}", envelope.payload_type));
    }
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|e| format!("its statement is damaged: {e}"))?;
    if statement.predicate_type != PREDICATE {
        return Err(format!("it states {:?}", statement.predicate_type));
    }
    let about = |subject: &Subject| {
        subject
            .digest
            .get(digest.algorithm().as_str())
            .is_some_and(|hex| hex == digest.hex())
    };
    if !statement.subject.iter().any(about) {
        return Err("it is about another image".into());
    }
    Ok(key)
}

/// A bundle that says that `key` has signed the image `digest`.
pub fn make_bundle(key: &PrivateKey, digest: &Digest) -> Result<Vec<u8>> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { digest.algorithm().as_str(): digest.hex() } }],
        "predicateType": PREDICATE,
        "predicate": {},
    });
    let payload = statement.to_string().into_bytes();
    let signature = key.sign(&pre_authentication(IN_TOTO, &payload))?;
    let bundle = json!({
        "mediaType": BUNDLE,
        "verificationMaterial": { "publicKey": { "hint": key.public()?.hint() } },
        "dsseEnvelope": Envelope {
            payload: BASE64.encode(&payload),
            payload_type: IN_TOTO.into(),
            signatures: vec![EnvelopeSignature { sig: BASE64.encode(&signature) }],
        },
    });
    serde_json::to_vec(&bundle)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write a bundle: {e}")))
}
