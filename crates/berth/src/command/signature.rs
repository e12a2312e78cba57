//! `image sign`, `image verify-signature` and `image attestations`, which Docker does not have: signatures
//! as cosign makes them with keys, and what else a registry has beside an image.

use std::io::Read;

use berth_client::Client;
use berth_distribution::signature::{KEY_MAX, PrivateKey, make_bundle, simple_payload};
use berth_spec::docker::image::{
    DistributionInspect, ImageAttestation, ImageSigned, SignatureAdd, SignatureCheck,
};
use berth_spec::{Digest, Reference};
use data_encoding::BASE64;

use super::ps::FORMAT_HELP;
use super::pull::AUTH;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome, why};
use crate::format::rows::{self, Field, Row};
use crate::format::size::human;
use crate::reference;

#[derive(Debug, clap::Args)]
pub struct Sign {
    /// File with the private key (PEM, without a password)
    #[arg(long, value_name = "string", required = true)]
    key: String,
    /// Write sigstore's bundle (as a referrer) instead of cosign's tag
    #[arg(long)]
    bundle: bool,
    words: Vec<String>,
}

impl Verb for Sign {
    const ARGUMENTS: &'static str = "[OPTIONS] --key FILE NAME[:TAG|@DIGEST]";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.words[0];
        let parsed = reference::parse(name)?.or_latest();
        let key = read(&self.key)?;
        let key =
            PrivateKey::parse(&key).map_err(|e| Failure::new(format!("{}: {e}", self.key)))?;
        let client = cli.client().await?;
        let auth = cli.config.auth_header(name)?;
        let digest = digest_of(client, &parsed, &auth).await?;
        let failed = |e: berth_distribution::Error| Failure::new(e.to_string());
        let mut add = SignatureAdd {
            digest: digest.to_string(),
            ..SignatureAdd::default()
        };
        if self.bundle {
            add.bundle = BASE64.encode(&make_bundle(&key, &digest).map_err(failed)?);
        } else {
            let payload = simple_payload(&parsed.name(), &digest);
            add.signature = BASE64.encode(&key.sign(&payload).map_err(failed)?);
            add.payload = BASE64.encode(&payload);
        }
        client
            .post("/images/signatures")
            .query("name", parsed.to_string())
            .header(AUTH, auth)
            .body_json(&add)?
            .done()
            .await?;
        println!("{}@{digest}", parsed.familiar_name());
        Ok(())
    }
}

fn read(path: &str) -> Outcome<String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(KEY_MAX as u64).read_to_string(&mut text))
        .map_err(|e| Failure::new(format!("open {path}: {}", why(&e))))?;
    Ok(text)
}

/// What the registry has under a name.
async fn digest_of(client: &Client, name: &Reference, auth: &str) -> Outcome<Digest> {
    if let Some(digest) = name.digest() {
        return Ok(digest.clone());
    }
    let found: DistributionInspect = client
        .get(format!("/distribution/{name}/json"))
        .header(AUTH, auth)
        .json()
        .await?;
    let digest = found.descriptor.digest;
    digest
        .parse()
        .map_err(|_| Failure::new(format!("the engine answered with the digest {digest:?}")))
}

#[derive(Debug, clap::Args)]
pub struct VerifySignature {
    /// File with a public key (PEM); those of the engine's signature-policy where none is given
    #[arg(long, value_name = "list")]
    key: Vec<String>,
    words: Vec<String>,
}

impl Verb for VerifySignature {
    const ARGUMENTS: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.words[0];
        let parsed = reference::parse(name)?.or_latest();
        let keys = self
            .key
            .iter()
            .map(|path| read(path))
            .collect::<Outcome<_>>()?;
        let signed: ImageSigned = cli
            .client()
            .await?
            .post("/images/signatures/verify")
            .query("name", parsed.to_string())
            .header(AUTH, cli.config.auth_header(name)?)
            .body_json(&SignatureCheck { keys })?
            .json()
            .await?;
        println!(
            "{}@{} is signed ({}) by sha256:{}",
            parsed.familiar_name(),
            signed.digest,
            signed.form,
            signed.key
        );
        Ok(())
    }
}

const FIELDS: [Field; 6] = [
    ("Kind", "KIND"),
    ("Type", "TYPE"),
    ("Platform", "PLATFORM"),
    ("Subject", "SUBJECT"),
    ("Digest", "DIGEST"),
    ("Size", "SIZE"),
];

#[derive(Debug, clap::Args)]
pub struct Attestations {
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    words: Vec<String>,
}

impl Verb for Attestations {
    const ARGUMENTS: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.words[0];
        let parsed = reference::parse(name)?.or_latest();
        let found: Vec<ImageAttestation> = cli
            .client()
            .await?
            .get("/images/attestations")
            .query("name", parsed.to_string())
            .header(AUTH, cli.config.auth_header(name)?)
            .json()
            .await?;
        let rows = found.iter().map(|one| self.row(one)).collect();
        let template = match self.format.as_deref().unwrap_or("table") {
            "table" => "table {{.Kind}}\t{{.Type}}\t{{.Platform}}\t{{.Digest}}\t{{.Size}}",
            other => other,
        };
        rows::print(template, &FIELDS, rows)
    }
}

impl Attestations {
    fn row(&self, one: &ImageAttestation) -> Row {
        let digest = |text: &str| match self.no_trunc {
            true => text.to_owned(),
            false => reference::short_id(text).to_owned(),
        };
        let mut row = Row::default();
        row.set("Kind", one.kind.clone())
            .set("Type", one.type_name.clone())
            .set("Platform", one.platform.clone())
            .set("Subject", digest(&one.subject))
            .set("Digest", digest(&one.digest))
            .set("Size", human(one.size as f64));
        row
    }
}
