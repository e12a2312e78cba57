//! Platforms: `os[/arch[/variant]]`, and the arguments made of them.

use berth_spec::oci::image::{ImageConfig, Platform};

use crate::{Error, Result};

/// The host's.
pub(crate) fn host() -> Platform {
    Platform {
        os: "linux".into(),
        architecture: normal(std::env::consts::ARCH).0.into(),
        ..Platform::default()
    }
}

/// Reads a platform; empty for the host's.
pub(crate) fn requested(text: &str) -> Result<Platform> {
    if text.is_empty() {
        return Ok(host());
    }
    let bad = || {
        Error::invalid(format!(
            "{text:?}: unknown operating system or architecture: invalid argument"
        ))
    };
    let parts: Vec<&str> = text.split('/').collect();
    let good = |part: &&str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    if parts.len() > 3 || !parts.iter().all(good) {
        return Err(bad());
    }
    let lower: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    let mut platform = host();
    match lower.as_slice() {
        [one] if matches!(one.as_str(), "linux" | "windows" | "darwin" | "freebsd") => {
            platform.os.clone_from(one);
        }
        [arch] => platform.architecture.clone_from(arch),
        [os, arch, rest @ ..] => {
            platform.os.clone_from(os);
            platform.architecture.clone_from(arch);
            platform.variant = rest.first().cloned();
        }
        [] => return Err(bad()),
    }
    let (architecture, variant) = normal(&platform.architecture);
    let variant = variant.map(str::to_owned);
    platform.architecture = architecture.to_owned();
    platform.variant = platform.variant.or(variant).filter(|v| {
        // What every machine of an architecture has is not said.
        !matches!(
            (platform.architecture.as_str(), v.as_str()),
            ("arm64", "v8") | ("amd64", "v1")
        )
    });
    if platform.os != "linux" {
        return Err(Error::invalid(format!(
            "operating system {:?} is not supported: images are built for linux",
            platform.os
        )));
    }
    Ok(platform)
}

/// Go's name of an architecture, and the variant that another name implies.
fn normal(architecture: &str) -> (&str, Option<&'static str>) {
    match architecture {
        "x86_64" | "x86-64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "i386" | "x86" => ("386", None),
        "powerpc64" => ("ppc64le", None),
        other => (other, None),
    }
}

/// `os/arch[/variant]`.
pub(crate) fn text(platform: &Platform) -> String {
    let mut text = format!("{}/{}", platform.os, platform.architecture);
    if let Some(variant) = &platform.variant {
        text.push('/');
        text.push_str(variant);
    }
    text
}

/// Whether an image is for `platform`. One that does not say what it is for is for all.
pub(crate) fn fits(image: &ImageConfig, platform: &Platform) -> bool {
    let same = |own: &str, wanted: &str| own.is_empty() || own == wanted;
    same(&image.os, &platform.os)
        && same(&image.architecture, &platform.architecture)
        && match (&image.variant, &platform.variant) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        }
}

/// The predefined arguments: `TARGETPLATFORM`, `BUILDARCH` …
pub(crate) fn arguments(target: &Platform, stage: &str) -> Vec<(&'static str, String)> {
    let build = host();
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    let stage = if stage.is_empty() { "default" } else { stage };
    vec![
        ("TARGETPLATFORM", text(target)),
        ("TARGETOS", target.os.clone()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("BUILDPLATFORM", text(&build)),
        ("BUILDOS", build.os.clone()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(&build)),
        ("TARGETSTAGE", stage.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        for (given, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("Linux/ARM/v7", "linux/arm/v7"),
            ("aarch64", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
        ] {
            assert_eq!(text(&requested(given).unwrap()), expected);
        }
        assert_eq!(requested("linux").unwrap(), host());
        for bad in ["/", "linux//x", "a/b/c/d", "windows/amd64", "linux/a b"] {
            assert!(requested(bad).is_err(), "{bad}");
        }
    }
}
