//! Networks and a container's place in them.

use std::collections::BTreeMap;

use super::Empty;

wire! {
    /// The networks a container joins when it is created.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkingConfig {
        pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
    }

    /// A container's place in one network: what was asked and what it got.
    #[serde(rename_all = "PascalCase")]
    pub struct EndpointSettings {
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointIpam>,
        pub links: Option<Vec<String>>,
        pub aliases: Option<Vec<String>>,
        pub mac_address: String,
        pub driver_opts: Option<BTreeMap<String, String>>,
        pub gw_priority: i64,
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        pub gateway: String,
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u8,
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u8,
        #[serde(rename = "DNSNames")]
        pub dns_names: Option<Vec<String>>,
    }

    /// Addresses asked for.
    #[serde(rename_all = "PascalCase")]
    pub struct EndpointIpam {
        #[serde(rename = "IPv4Address", skip_serializing_if = "crate::docker::zero")]
        pub ipv4_address: String,
        #[serde(rename = "IPv6Address", skip_serializing_if = "crate::docker::zero")]
        pub ipv6_address: String,
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "crate::docker::zero")]
        pub link_local_ips: Vec<String>,
    }

    /// A network, as listed and inspected.
    #[serde(rename_all = "PascalCase")]
    pub struct Network {
        pub name: String,
        pub id: String,
        /// RFC 3339.
        pub created: String,
        pub scope: String,
        pub driver: String,
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: bool,
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: bool,
        #[serde(rename = "IPAM")]
        pub ipam: Ipam,
        pub internal: bool,
        pub attachable: bool,
        pub ingress: bool,
        pub config_from: ConfigReference,
        pub config_only: bool,
        /// Container ID to its endpoint; always empty in a list.
        pub containers: BTreeMap<String, NetworkContainer>,
        pub options: BTreeMap<String, String>,
        pub labels: BTreeMap<String, String>,
    }

    /// How a network's addresses are given out.
    #[serde(rename_all = "PascalCase")]
    pub struct Ipam {
        pub driver: String,
        pub options: Option<BTreeMap<String, String>>,
        pub config: Option<Vec<IpamConfig>>,
    }

    /// One subnet.
    #[serde(rename_all = "PascalCase")]
    pub struct IpamConfig {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub subnet: String,
        #[serde(rename = "IPRange", skip_serializing_if = "crate::docker::zero")]
        pub ip_range: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub gateway: String,
        #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "crate::docker::zero")]
        pub auxiliary_addresses: BTreeMap<String, String>,
    }

    /// The network a configuration was taken from.
    #[serde(rename_all = "PascalCase")]
    pub struct ConfigReference {
        pub network: String,
    }

    /// A container in the answer of a network's inspection.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkContainer {
        pub name: String,
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        pub mac_address: String,
        #[serde(rename = "IPv4Address")]
        pub ipv4_address: String,
        #[serde(rename = "IPv6Address")]
        pub ipv6_address: String,
    }

    /// Body of `POST /networks/create`.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkCreateBody {
        pub name: String,
        pub driver: String,
        pub scope: String,
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: Option<bool>,
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: Option<bool>,
        #[serde(rename = "IPAM")]
        pub ipam: Option<Ipam>,
        pub internal: bool,
        pub attachable: bool,
        pub ingress: bool,
        pub config_only: bool,
        pub config_from: Option<ConfigReference>,
        pub options: Option<BTreeMap<String, String>>,
        pub labels: Option<BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub check_duplicate: Option<bool>,
    }

    /// Answer of `POST /networks/create`.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkCreateResponse {
        pub id: String,
        pub warning: String,
    }

    /// Body of `POST /networks/{id}/connect`.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkConnectBody {
        pub container: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub endpoint_config: Option<EndpointSettings>,
    }

    /// Body of `POST /networks/{id}/disconnect`.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkDisconnectBody {
        pub container: String,
        pub force: bool,
    }

    /// Answer of `POST /networks/prune`.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworksPruned {
        pub networks_deleted: Option<Vec<String>>,
    }
}

/// Ports a container exposes without publishing them.
pub type PortSet = BTreeMap<String, Empty>;
