//! `login`.

use std::io::Read;

use berth_spec::docker::{AuthConfig, AuthResponse};

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::reference::DEFAULT_REGISTRY;
use crate::terminal::{self, prompt};

/// Longest password read from standard input, in bytes.
const MAX_PASSWORD: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    words: Vec<String>,
}

impl Verb for Login {
    const ARGUMENTS: &'static str = "[OPTIONS] [SERVER]";
    const TAKES: Takes = Takes::AtMost(1);

    async fn run(self, cli: &Cli) -> Outcome {
        self.check()?;
        if self.password.is_some() {
            eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        let server = server(self.words.first());
        let user = self.username.clone().unwrap_or_default();
        let password = self.given_password()?;
        if user.is_empty() && password.is_empty() {
            let stored = cli.config.credentials(&server)?;
            if let Some(stored) = stored.filter(|s| !s.password.is_empty())
                && stored_login(cli, &server, stored).await?
            {
                return Ok(());
            }
        }
        let auth = ask(&server, user, password)?;
        log_in(cli, &server, auth).await
    }
}

impl Login {
    fn check(&self) -> Outcome {
        let fail = |text: &str| Err(Failure::new(text));
        if self.password_stdin && self.password.is_some() {
            return fail(
                "conflicting options: cannot specify both --password and --password-stdin",
            );
        }
        if self.password_stdin && self.username.is_none() {
            return fail("the --password-stdin option requires --username to be set");
        }
        if self.username.as_deref() == Some("") {
            return fail("username is empty");
        }
        if self.password.as_deref() == Some("") {
            return fail("password is empty");
        }
        Ok(())
    }

    fn given_password(&self) -> Outcome<String> {
        if !self.password_stdin {
            return Ok(self.password.clone().unwrap_or_default());
        }
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(MAX_PASSWORD)
            .read_to_string(&mut text)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }
}

/// The registry's key in config.json.
pub fn server(given: Option<&String>) -> String {
    match given.map(String::as_str) {
        None | Some("" | "docker.io") => DEFAULT_REGISTRY.to_owned(),
        Some(address) if address == DEFAULT_REGISTRY => address.to_owned(),
        Some(address) => hostname(address).to_owned(),
    }
}

/// The host and port in an address.
pub fn hostname(address: &str) -> &str {
    let bare = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    bare.split('/').next().unwrap_or(bare)
}

/// Whether the engine takes the credentials that are kept.
async fn stored_login(cli: &Cli, server: &str, mut auth: AuthConfig) -> Outcome<bool> {
    eprintln!(
        "Authenticating with existing credentials... [Username: {}]",
        auth.username
    );
    let program = cli.program;
    eprintln!(
        "\n Info -> To login with a different account, run '{program} logout' followed by '{program} login'\n\n"
    );
    auth.serveraddress = server.to_owned();
    match log_in(cli, server, auth).await {
        Ok(()) => Ok(true),
        Err(e) => {
            eprintln!("Login did not succeed, error: {e}");
            Ok(false)
        }
    }
}

fn ask(server: &str, user: String, password: String) -> Outcome<AuthConfig> {
    let (user, password) = (user.trim().to_owned(), password.trim().to_owned());
    if (user.is_empty() || password.is_empty()) && !terminal::stdin_is_terminal() {
        return Err(Failure::new(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let username = if user.is_empty() {
        prompt::line("Username: ")?
    } else {
        user
    };
    if username.is_empty() {
        return Err(Failure::new("Error: Non-null Username Required"));
    }
    let password = if password.is_empty() {
        prompt::secret("Password: ")?
    } else {
        password
    };
    if password.is_empty() {
        return Err(Failure::new("Error: Password Required"));
    }
    Ok(AuthConfig {
        username,
        password,
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    })
}

async fn log_in(cli: &Cli, server: &str, mut auth: AuthConfig) -> Outcome {
    let client = cli.client().await?;
    let answer: AuthResponse = client.post("/auth").body_json(&auth)?.json().await?;
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken = answer.identity_token;
    }
    let mut config = cli.config.clone();
    let path = config.path();
    if config.store_credentials(server, &auth)? {
        eprintln!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            path.display()
        );
    }
    if !answer.status.is_empty() {
        println!("{}", answer.status);
    }
    Ok(())
}
