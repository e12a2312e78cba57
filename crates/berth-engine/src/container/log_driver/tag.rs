//! The tag of a container's output: text with Go's `{{.Field}}` in it.

use crate::container::plan::spec::args;
use crate::container::record::Record;
use crate::{Error, Result};

/// What a template may name: Docker's fields.
const FIELDS: [&str; 13] = [
    "ID",
    "FullID",
    "Name",
    "ImageID",
    "ImageFullID",
    "ImageName",
    "DaemonName",
    "Command",
    "ContainerID",
    "ContainerName",
    "ContainerImageID",
    "ContainerImageName",
    "Hostname",
];

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Field(&'t str),
}

fn parse(template: &str) -> Result<Vec<Piece<'_>>> {
    let refused = |what: &str| {
        Error::invalid(format!(
            "invalid log tag {template:?}: {what}; the fields are {}",
            FIELDS.map(|f| format!("{{{{.{f}}}}}")).join(", ")
        ))
    };
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, more)) = rest.split_once("{{") {
        pieces.push(Piece::Text(text));
        let (action, more) = more
            .split_once("}}")
            .ok_or_else(|| refused("unclosed action"))?;
        let field = action.trim().strip_prefix('.').unwrap_or_default();
        match FIELDS.contains(&field) {
            true => pieces.push(Piece::Field(field)),
            false => return Err(refused(&format!("cannot evaluate {}", action.trim()))),
        }
        rest = more;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Checks a template.
pub(super) fn check(template: &str) -> Result<()> {
    parse(template).map(drop)
}

/// A container's tag.
pub(super) fn render(template: &str, record: &Record) -> Result<String> {
    let short = |id: &str| id.chars().take(12).collect::<String>();
    let pieces = parse(template)?;
    Ok(pieces
        .into_iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Field("ID") => short(&record.id),
            Piece::Field("FullID" | "ContainerID") => record.id.clone(),
            Piece::Field("Name") => record.name.clone(),
            Piece::Field("ContainerName") => format!("/{}", record.name),
            Piece::Field("ImageID") => short(&record.image),
            Piece::Field("ImageFullID" | "ContainerImageID") => record.image.clone(),
            Piece::Field("ImageName" | "ContainerImageName") => record.config.image.clone(),
            // What configurations of log servers look for.
            Piece::Field("DaemonName") => "docker".to_owned(),
            Piece::Field("Command") => args(&record.config).join(" "),
            Piece::Field(_) => record.config.hostname.clone(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in() {
        let record = Record {
            id: "0123456789abcdef".to_owned(),
            name: "web".to_owned(),
            ..Record::default()
        };
        for (template, expected) in [
            ("{{.ID}}", "0123456789ab"),
            ("app/{{ .Name }}-{{.FullID}}!", "app/web-0123456789abcdef!"),
            ("", ""),
        ] {
            assert_eq!(render(template, &record).unwrap(), expected);
        }
        for bad in ["{{.Nope}}", "{{", "{{printf 1}}"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
