//! `--network NAME` or `--network name=…,alias=…,ip=…`, and the older flags beside it.

use std::collections::BTreeMap;

use berth_spec::docker::EndpointSettings;
use berth_spec::docker::network::EndpointIpam;

use super::csv;
use super::value::is_mac;

/// One network to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, or a mode.
    pub target: String,
    /// Further names there.
    pub aliases: Vec<String>,
    /// Links there.
    pub links: Vec<String>,
    /// Options for the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// The address asked for.
    pub ipv4: String,
    /// The address asked for.
    pub ipv6: String,
    /// Further addresses.
    pub link_local: Vec<String>,
    /// The hardware address asked for.
    pub mac: String,
    /// Which network the default route goes through.
    pub gw_priority: i64,
}

/// Reads one `--network`.
pub fn parse(text: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !is_long(text) {
        attachment.target = text.to_owned();
        return Ok(attachment);
    }
    for field in csv::fields(text)? {
        let lower = field.to_lowercase();
        let (key, value) = lower
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        set(&mut attachment, key.trim(), value.trim())?;
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

/// Whether this is `word=word`, Docker's mark of the long notation.
fn is_long(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices('=')
        .any(|(at, _)| text[..at].ends_with(word) && text[at + 1..].starts_with(word))
}

fn set(attachment: &mut Attachment, key: &str, value: &str) -> Result<(), String> {
    match key {
        "name" => attachment.target = value.to_owned(),
        "alias" => attachment.aliases.push(value.to_owned()),
        "ip" => attachment.ipv4 = value.to_owned(),
        "ip6" => attachment.ipv6 = value.to_owned(),
        "mac-address" => attachment.mac = value.to_owned(),
        "link-local-ip" => attachment.link_local.push(value.to_owned()),
        "driver-opt" => {
            let (name, value) = value
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or("invalid key value pair format in driver options")?;
            let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
            attachment.driver_opts.insert(name, value);
        }
        "gw-priority" => {
            attachment.gw_priority = value
                .parse()
                .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
        }
        _ => return Err(format!("invalid field key {key}")),
    }
    Ok(())
}

/// The flags of before the long notation, which belong to the first network.
#[derive(Debug, Clone, Default)]
pub struct Older<'a> {
    /// `--network-alias`.
    pub aliases: &'a [String],
    /// `--link`.
    pub links: &'a [String],
    /// `--ip`.
    pub ipv4: &'a str,
    /// `--ip6`.
    pub ipv6: &'a str,
    /// `--link-local-ip`.
    pub link_local: &'a [String],
    /// `--mac-address`.
    pub mac: &'a str,
}

type Endpoints = BTreeMap<String, Option<EndpointSettings>>;

/// The endpoints that a container is to have.
pub fn endpoints(attachments: &[Attachment], older: &Older<'_>) -> Result<Endpoints, String> {
    let mut found = Endpoints::new();
    if attachments.is_empty() {
        let mut default = Attachment {
            target: "default".to_owned(),
            ..Attachment::default()
        };
        merge(&mut default, older)?;
        found.insert("default".to_owned(), Some(endpoint(&default)?));
    }
    let (mut user_defined, mut builtin) = (false, false);
    for (i, attachment) in attachments.iter().enumerate() {
        if is_user_defined(&attachment.target) {
            user_defined = true;
        } else {
            builtin = true;
        }
        let mut attachment = attachment.clone();
        if i == 0 {
            merge(&mut attachment, older)?;
        }
        let settings = endpoint(&attachment)?;
        if found.contains_key(&attachment.target) {
            return Err(format!(
                "network {:?} is specified multiple times",
                attachment.target
            ));
        }
        // A lone network without wishes needs no settings: older engines expect none.
        if attachments.len() > 1 || settings != EndpointSettings::default() {
            found.insert(attachment.target, Some(settings));
        }
    }
    if user_defined && builtin {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned());
    }
    Ok(found)
}

/// Whether a network mode names a network that a user made.
pub fn is_user_defined(mode: &str) -> bool {
    !["default", "bridge", "host", "none", "nat"].contains(&mode) && !mode.starts_with("container:")
}

fn merge(attachment: &mut Attachment, older: &Older<'_>) -> Result<(), String> {
    let conflict = |both: bool, flags: &str| {
        if both {
            Err(format!("conflicting options: cannot specify both {flags}"))
        } else {
            Ok(())
        }
    };
    let (own, old) = (&*attachment, older);
    conflict(
        !own.aliases.is_empty() && !old.aliases.is_empty(),
        "--network-alias and per-network alias",
    )?;
    conflict(
        !own.links.is_empty() && !old.links.is_empty(),
        "--link and per-network links",
    )?;
    conflict(
        !own.ipv4.is_empty() && !old.ipv4.is_empty(),
        "--ip and per-network IPv4 address",
    )?;
    conflict(
        !own.ipv6.is_empty() && !old.ipv6.is_empty(),
        "--ip6 and per-network IPv6 address",
    )?;
    conflict(
        !own.mac.is_empty() && !old.mac.is_empty(),
        "--mac-address and per-network MAC address",
    )?;
    conflict(
        !own.link_local.is_empty() && !old.link_local.is_empty(),
        "--link-local-ip and per-network link-local IP addresses",
    )?;
    attachment.aliases.extend_from_slice(older.aliases);
    // On the default bridge a link is the container's own affair.
    if is_user_defined(&attachment.target) {
        attachment.links.extend_from_slice(older.links);
    }
    attachment.ipv4.push_str(older.ipv4);
    attachment.ipv6.push_str(older.ipv6);
    attachment.mac.push_str(older.mac);
    attachment.link_local.extend_from_slice(older.link_local);
    Ok(())
}

fn endpoint(attachment: &Attachment) -> Result<EndpointSettings, String> {
    if attachment.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&attachment.target) {
        if !attachment.aliases.is_empty() {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            );
        }
        if !attachment.links.is_empty() {
            return Err("links are only supported for user-defined networks".to_owned());
        }
    }
    if !attachment.mac.is_empty() && !is_mac(&attachment.mac) {
        return Err(format!("{} is not a valid mac address", attachment.mac));
    }
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let addresses = !attachment.ipv4.is_empty()
        || !attachment.ipv6.is_empty()
        || !attachment.link_local.is_empty();
    Ok(EndpointSettings {
        aliases: some(&attachment.aliases),
        links: some(&attachment.links),
        driver_opts: (!attachment.driver_opts.is_empty()).then(|| attachment.driver_opts.clone()),
        ipam_config: addresses.then(|| EndpointIpam {
            ipv4_address: attachment.ipv4.clone(),
            ipv6_address: attachment.ipv6.clone(),
            link_local_ips: attachment.link_local.clone(),
        }),
        mac_address: attachment.mac.clone(),
        gw_priority: attachment.gw_priority,
        ..EndpointSettings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations() {
        assert_eq!(parse("n").unwrap().target, "n");
        let long = parse("name=n,alias=a,alias=b,ip=1.2.3.4,driver-opt=k=v").unwrap();
        assert_eq!((&*long.target, &*long.ipv4), ("n", "1.2.3.4"));
        assert_eq!(long.aliases, ["a", "b"]);
        assert_eq!(long.driver_opts["k"], "v");
        assert_eq!(
            parse("alias=b").unwrap_err(),
            "network name/id is not specified"
        );
        assert_eq!(parse("name=n,x=y").unwrap_err(), "invalid field key x");
    }

    #[test]
    fn older_flags_go_to_the_first_network() {
        let aliases = ["a".to_owned()];
        let older = Older {
            aliases: &aliases,
            ..Older::default()
        };
        let nets = [parse("n").unwrap(), parse("m").unwrap()];
        let found = endpoints(&nets, &older).unwrap();
        assert_eq!(found["n"].as_ref().unwrap().aliases, Some(aliases.to_vec()));
        assert_eq!(found["m"].as_ref().unwrap().aliases, None);
        assert!(endpoints(&[], &older).is_err());
        assert!(endpoints(&nets[..1], &Older::default()).unwrap().is_empty());
        let mixed = [parse("n").unwrap(), parse("host").unwrap()];
        assert!(endpoints(&mixed, &Older::default()).is_err());
    }
}
