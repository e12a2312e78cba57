//! Published ports as Docker writes them: `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.

use std::collections::BTreeMap;

wire! {
    /// One host side of a published port. Both are text on the wire; an empty port asks for
    /// a free one, an empty address means every address.
    #[serde(rename_all = "PascalCase")]
    pub struct PortBinding {
        pub host_ip: String,
        pub host_port: String,
    }
}

/// Container port (`80/tcp`) to its host sides; `None` (JSON `null`) for an exposed port
/// that is not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;
