//! Credential helpers: `docker-credential-NAME get|store|erase|list`, JSON both ways.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use berth_spec::docker::AuthConfig;
use serde::{Deserialize, Serialize};

/// What a helper says where it has nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name under which a helper keeps an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Serialize, Deserialize)]
struct Credentials {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// What the helper keeps for a registry.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<AuthConfig>, String> {
    let answer = match call(helper, "get", server.as_bytes()) {
        Err(text) if text.contains(NOT_FOUND) => return Ok(None),
        other => other?,
    };
    let found: Credentials =
        serde_json::from_str(&answer).map_err(|e| format!("docker-credential-{helper}: {e}"))?;
    let mut auth = AuthConfig {
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    };
    if found.username == TOKEN_USER {
        auth.identitytoken = found.secret;
    } else {
        auth.username = found.username;
        auth.password = found.secret;
    }
    Ok(Some(auth))
}

/// Gives the helper credentials to keep.
pub(super) fn store(helper: &str, server: &str, auth: &AuthConfig) -> Result<(), String> {
    let token = !auth.identitytoken.is_empty();
    let credentials = Credentials {
        server_url: server.to_owned(),
        username: if token { TOKEN_USER } else { &auth.username }.to_owned(),
        secret: if token {
            &auth.identitytoken
        } else {
            &auth.password
        }
        .clone(),
    };
    let text = serde_json::to_vec(&credentials).map_err(|e| e.to_string())?;
    call(helper, "store", &text).map(drop)
}

/// Makes the helper forget a registry.
pub(super) fn erase(helper: &str, server: &str) -> Result<(), String> {
    match call(helper, "erase", server.as_bytes()) {
        Err(text) if text.contains(NOT_FOUND) => Ok(()),
        other => other.map(drop),
    }
}

/// The registries a helper knows, with their user names.
pub(super) fn list(helper: &str) -> Result<BTreeMap<String, String>, String> {
    let answer = call(helper, "list", b"unused")?;
    serde_json::from_str(&answer).map_err(|e| format!("docker-credential-{helper}: {e}"))
}

fn call(helper: &str, verb: &str, input: &[u8]) -> Result<String, String> {
    let program = format!("docker-credential-{helper}");
    let named = |e: std::io::Error| {
        format!("error getting credentials - err: exec: {program:?}: {e}, out: ``")
    };
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(named)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that has heard enough may close it early; its answer says the rest.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(named)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!(
            "error getting credentials - err: {}, out: `{text}`",
            output.status
        ))
    }
}
