//! `proxies`: what containers and builds are told of proxies.

use serde_json::Value;

use super::ConfigFile;

/// The keys of config.json and the variables they become.
const VARIABLES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

impl ConfigFile {
    /// `NAME` and value of each proxy variable for an engine at `host`, in both cases of
    /// letters.
    pub fn proxies(&self, host: &str) -> Vec<(String, String)> {
        let proxies = self.content.get("proxies");
        let Some(entry) = proxies
            .and_then(|p| p.get(host))
            .or_else(|| proxies.and_then(|p| p.get("default")))
        else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (key, variable) in VARIABLES {
            if let Some(value) = entry.get(key).and_then(Value::as_str)
                && !value.is_empty()
            {
                found.push((variable.to_owned(), value.to_owned()));
                found.push((variable.to_ascii_lowercase(), value.to_owned()));
            }
        }
        found
    }
}
