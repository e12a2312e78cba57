//! A registry in a process of its own: this test program once more, told so by its environment.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use berth_distribution::server::{Registry, Settings};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Has the settings of the registry that is asked for.
const ASKED: &str = "BERTH_TEST_REGISTRY";

/// Serves until it is killed, if this process is one for that.
pub fn serve_if_asked() {
    let Ok(settings) = std::env::var(ASKED) else {
        return;
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let settings = Settings::parse(settings.as_bytes()).expect("settings");
        let registry = Registry::open(settings).await.expect("a registry");
        println!(
            "\nlistening on {}",
            registry.address().expect("its address")
        );
        let (_end, ending) = watch::channel(false);
        registry.serve(ending).await;
    });
}

/// A registry that can be killed and started again on the same root and address.
pub struct Replica {
    dir: tempfile::TempDir,
    settings: Value,
    address: String,
    child: Option<Child>,
}

impl Replica {
    pub fn start(settings: &Value) -> Self {
        let mut replica = Self {
            dir: tempfile::tempdir().expect("a directory"),
            settings: settings.clone(),
            address: "127.0.0.1:0".into(),
            child: None,
        };
        replica.launch();
        replica
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn launch(&mut self) {
        let mut settings = self.settings.clone();
        settings["root"] = json!(self.dir.path().join("root"));
        settings["address"] = json!(self.address);
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "a_registry_of_its_own_where_one_is_asked_for",
                "--nocapture",
            ])
            .env(ASKED, settings.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        self.address = address.unwrap_or_else(|| panic!("it ended at once: {:?}", child.wait()));
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a kill");
            child.wait().expect("its end");
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}
