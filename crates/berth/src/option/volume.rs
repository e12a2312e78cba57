//! `-v [source:]target[:options]`.

use super::mount::clean_absolute;

/// What a `-v` asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Volume {
    /// A volume without a name, at this path.
    Anonymous(String),
    /// A bind mount or a named volume, as the API's `Binds` has it.
    Bind(String),
}

/// Reads one; a source relative to here is made absolute.
pub fn parse(text: &str) -> Result<Volume, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!(
            "invalid spec: {text}: empty section between colons"
        ));
    }
    match parts[..] {
        [target] => Ok(Volume::Anonymous(target.to_owned())),
        [source, _] | [source, _, _] => {
            let rest = &text[source.len()..];
            Ok(Volume::Bind(if source.starts_with('.') {
                format!("{}{rest}", clean_absolute(source))
            } else {
                text.to_owned()
            }))
        }
        _ => Err(format!("invalid spec: {text}: too many colons")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        assert_eq!(parse("/a"), Ok(Volume::Anonymous("/a".into())));
        assert_eq!(parse("v:/a:ro,z"), Ok(Volume::Bind("v:/a:ro,z".into())));
        assert_eq!(parse("/h:/a"), Ok(Volume::Bind("/h:/a".into())));
        let here = std::env::current_dir().unwrap();
        let expected = format!("{}/x:/a:ro", here.display());
        assert_eq!(parse("./x:/a:ro"), Ok(Volume::Bind(expected)));
        assert_eq!(
            parse("a::b"),
            Err("invalid spec: a::b: empty section between colons".into())
        );
        assert_eq!(
            parse("a:b:c:d"),
            Err("invalid spec: a:b:c:d: too many colons".into())
        );
    }
}
