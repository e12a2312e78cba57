//! Credentials of registries: from a helper, or base64 in the file itself.

use berth_spec::docker::{AuthConfig, RegistryConfigs};
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::{ConfigFile, credential_program};
use crate::failure::{Failure, Outcome};
use crate::reference;

impl ConfigFile {
    /// The helper in charge of a registry, if there is one.
    fn helper_of(&self, server: &str) -> Option<String> {
        let own = self.map("credHelpers").remove(server);
        own.or_else(|| self.text("credsStore").map(str::to_owned))
    }

    /// What is kept for a registry.
    pub fn credentials(&self, server: &str) -> Outcome<Option<AuthConfig>> {
        match self.helper_of(server) {
            Some(helper) => credential_program::get(&helper, server).map_err(Failure::new),
            None => Ok(self.stored(server)),
        }
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.content.get("auths")?.as_object()
    }

    fn stored(&self, server: &str) -> Option<AuthConfig> {
        let auths = self.auths()?;
        let entry = auths.get(server).or_else(|| {
            // Old files have whole addresses as keys.
            auths
                .iter()
                .find(|(key, _)| host_of(key) == host_of(server))
                .map(|(_, entry)| entry)
        })?;
        decode(server, entry)
    }

    /// Everything that is kept: for `X-Registry-Config` of a build.
    pub fn all_credentials(&self) -> RegistryConfigs {
        let mut all = RegistryConfigs::new();
        for (server, entry) in self.auths().into_iter().flatten() {
            all.extend(decode(server, entry).map(|auth| (server.clone(), auth)));
        }
        if let Some(store) = self.text("credsStore") {
            for server in credential_program::list(store)
                .unwrap_or_default()
                .into_keys()
            {
                if let Ok(Some(auth)) = credential_program::get(store, &server) {
                    all.insert(server, auth);
                }
            }
        }
        for (server, name) in self.map("credHelpers") {
            if let Ok(Some(auth)) = credential_program::get(&name, &server) {
                all.insert(server, auth);
            }
        }
        all
    }

    /// The `X-Registry-Auth` header for an image name.
    pub fn auth_header(&self, image: &str) -> Outcome<String> {
        let server = reference::registry_of(image);
        let mut auth = self.credentials(&server)?.unwrap_or_default();
        if auth != AuthConfig::default() {
            auth.serveraddress = server;
        }
        Ok(berth_spec::docker::auth::encode_header(&auth))
    }

    /// Keeps credentials; `true` where new ones stand unencrypted in the file.
    pub fn store_credentials(&mut self, server: &str, auth: &AuthConfig) -> Outcome<bool> {
        let helper = self.helper_of(server);
        let entry = match &helper {
            Some(helper) => {
                credential_program::store(helper, server, auth).map_err(Failure::new)?;
                json!({})
            }
            None => encode(auth),
        };
        let auths = self
            .content
            .entry("auths")
            .or_insert_with(|| Value::Object(Map::new()));
        let before = auths
            .as_object_mut()
            .and_then(|auths| auths.insert(server.to_owned(), entry.clone()));
        self.save().map_err(|e| self.save_failed(&e))?;
        Ok(helper.is_none() && before != Some(entry))
    }

    /// Forgets a registry.
    pub fn erase_credentials(&mut self, server: &str) -> Outcome {
        if let Some(helper) = self.helper_of(server) {
            credential_program::erase(&helper, server).map_err(Failure::new)?;
        }
        let auths = self.content.get_mut("auths").and_then(Value::as_object_mut);
        if auths.and_then(|auths| auths.remove(server)).is_some() {
            self.save().map_err(|e| self.save_failed(&e))?;
        }
        Ok(())
    }

    fn save_failed(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!(
            "Error saving credentials: {}: {error}",
            self.path().display()
        ))
    }
}

/// The host in a key of `auths`.
fn host_of(key: &str) -> &str {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    bare.split('/').next().unwrap_or(bare)
}

fn decode(server: &str, entry: &Value) -> Option<AuthConfig> {
    let text = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut auth = AuthConfig {
        username: text("username"),
        password: text("password"),
        identitytoken: text("identitytoken"),
        registrytoken: text("registrytoken"),
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    };
    if let Ok(pair) = BASE64.decode(text("auth").as_bytes())
        && let Some((user, password)) = String::from_utf8_lossy(&pair).split_once(':')
    {
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    let empty =
        auth.username.is_empty() && auth.identitytoken.is_empty() && auth.registrytoken.is_empty();
    (!empty).then_some(auth)
}

fn encode(auth: &AuthConfig) -> Value {
    let pair = format!("{}:{}", auth.username, auth.password);
    let mut entry = json!({ "auth": BASE64.encode(pair.as_bytes()) });
    if !auth.identitytoken.is_empty() {
        entry["auth"] = BASE64
            .encode(format!("{}:", auth.username).as_bytes())
            .into();
        entry["identitytoken"] = auth.identitytoken.clone().into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, password: &str) -> AuthConfig {
        AuthConfig {
            username: name.into(),
            password: password.into(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn a_login_is_kept_found_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = ConfigFile::load(dir.path()).unwrap();
        assert!(file.store_credentials("h:5000", &user("u", "p:q")).unwrap());
        let mut file = ConfigFile::load(dir.path()).unwrap();
        let found = file.credentials("h:5000").unwrap().unwrap();
        assert_eq!((&*found.username, &*found.password), ("u", "p:q"));
        assert_eq!(file.all_credentials().len(), 1);
        file.erase_credentials("h:5000").unwrap();
        let file = ConfigFile::load(dir.path()).unwrap();
        assert_eq!(file.credentials("h:5000").unwrap(), None);
    }

    #[test]
    fn what_is_unknown_in_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"plugins":{"x":"y"}}"#).unwrap();
        let mut file = ConfigFile::load(dir.path()).unwrap();
        file.store_credentials("h", &user("u", "p")).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let auth = BASE64.encode(b"u:p");
        assert_eq!(
            text,
            format!(
                "{{\n\t\"auths\": {{\n\t\t\"h\": {{\n\t\t\t\"auth\": \"{auth}\"\n\t\t}}\n\t}},\n\t\"plugins\": {{\n\t\t\"x\": \"y\"\n\t}}\n}}"
            )
        );
    }
}
