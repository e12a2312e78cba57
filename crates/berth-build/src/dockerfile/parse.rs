//! Lines become instructions.

use berth_spec::oci::image::Healthcheck;

use super::flags::{Flags, Kind};
use super::go_format::{parse_duration, quote};
use super::instruction::{Command, CommandLine, Copy, Dockerfile, Instruction, Run, Stage};
use super::lines::{self, Line, heredoc_word};
use super::mount::Mount;
use super::words::{self, Arguments};
use crate::{Error, Result};

/// Instructions a Dockerfile may have.
const INSTRUCTIONS_MAX: usize = 10_000;
/// All instructions, for suggestions.
const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a whole Dockerfile; `name` is how errors call it.
pub(crate) fn parse(text: &str, name: &str) -> Result<Dockerfile> {
    if text.is_empty() {
        return Err(Error::invalid(format!(
            "the Dockerfile ({name}) cannot be empty"
        )));
    }
    let lexed = lines::cut(text).map_err(|e| e.within(&format!("failed to parse {name}")))?;
    let mut file = Dockerfile {
        arguments: Vec::new(),
        stages: Vec::new(),
        escape: lexed.escape,
        warnings: lexed.warnings,
    };
    if lexed.lines.len() > INSTRUCTIONS_MAX {
        return Err(Error::invalid(format!(
            "{name} has more than {INSTRUCTIONS_MAX} instructions"
        )));
    }
    for line in &lexed.lines {
        let parsed = parse_line(line, lexed.escape).map_err(|e| at_line(e, line.number))?;
        match (parsed, file.stages.last_mut()) {
            (Parsed::Stage(stage), _) => file.stages.push(stage),
            (Parsed::Command(command), Some(stage)) => stage.commands.push(command),
            (Parsed::Command(command), None)
                if matches!(command.instruction, Instruction::Arg(_)) =>
            {
                file.arguments.push(command);
            }
            (Parsed::Command(_), None) => {
                return Err(at_line(
                    Error::invalid("no build stage in current context"),
                    line.number,
                ));
            }
        }
    }
    if file.stages.is_empty() {
        return Err(Error::invalid(
            "No image was generated. Is your Dockerfile empty?",
        ));
    }
    Ok(file)
}

/// Reads instructions that belong to no stage: `ONBUILD` triggers, `--change`. Also answers the
/// escape character.
pub(crate) fn parse_commands(text: &str) -> Result<(Vec<Command>, char)> {
    let lexed = lines::cut(text)?;
    let mut commands = Vec::new();
    for line in &lexed.lines {
        match parse_line(line, lexed.escape)? {
            Parsed::Command(command) => commands.push(command),
            Parsed::Stage(_) => return Err(Error::invalid("FROM is not allowed here")),
        }
    }
    Ok((commands, lexed.escape))
}

fn at_line(error: Error, number: usize) -> Error {
    error.within(&format!("dockerfile parse error on line {number}"))
}

enum Parsed {
    Stage(Stage),
    Command(Command),
}

/// One line with its flags taken off.
struct Request<'a> {
    line: &'a Line,
    flags: Vec<String>,
    rest: String,
    escape: char,
}

fn parse_line(line: &Line, escape: char) -> Result<Parsed> {
    let (name, flags, rest) = words::split_command(&line.text);
    let request = Request {
        line,
        flags,
        rest,
        escape,
    };
    let instruction = match name.to_ascii_lowercase().as_str() {
        "from" => return from(&request).map(Parsed::Stage),
        "add" => add(&request),
        "arg" => arg(&request),
        "cmd" => command_line(&request, false).map(Instruction::Cmd),
        "copy" => copy(&request),
        "entrypoint" => command_line(&request, true).map(Instruction::Entrypoint),
        "env" => pairs(&request, "ENV").map(Instruction::Env),
        "expose" => expose(&request),
        "healthcheck" => healthcheck(&request),
        "label" => pairs(&request, "LABEL").map(|pairs| Instruction::Label {
            pairs,
            expand: true,
        }),
        "maintainer" => one(&request, "MAINTAINER").map(Instruction::Maintainer),
        "onbuild" => onbuild(&request),
        "run" => run(&request),
        "shell" => shell(&request),
        "stopsignal" => one(&request, "STOPSIGNAL").map(Instruction::Stopsignal),
        "user" => one(&request, "USER").map(Instruction::User),
        "volume" => volume(&request),
        "workdir" => one(&request, "WORKDIR").map(Instruction::Workdir),
        _ => {
            let hint = super::suggest(&name, NAMES.into_iter())
                .map(|name| format!(" (did you mean {name}?)"))
                .unwrap_or_default();
            Err(Error::invalid(format!("unknown instruction: {name}{hint}")))
        }
    }?;
    Ok(Parsed::Command(Command {
        instruction,
        text: line.text.trim().to_owned(),
    }))
}

impl Request<'_> {
    fn flags(&self, known: &[(&str, Kind)]) -> Result<Flags> {
        Flags::parse(&self.flags, known)
    }
}

fn at_least_one(name: &str) -> Error {
    Error::invalid(format!("{name} requires at least one argument"))
}

fn from(request: &Request) -> Result<Stage> {
    let flags = request.flags(&[("platform", Kind::Text)])?;
    let args = words::plain_words(&request.rest);
    let name = match args.as_slice() {
        [_] => None,
        [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            let lower = name.to_ascii_lowercase();
            let good = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower.chars().all(|c| {
                    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.')
                });
            if !good {
                return Err(Error::invalid(format!(
                    "invalid name for build stage: {}, name can't start with a number or contain symbols",
                    quote(name)
                )));
            }
            Some(lower)
        }
        _ => {
            return Err(Error::invalid(
                "FROM requires either one or three arguments",
            ));
        }
    };
    Ok(Stage {
        base: args[0].clone(),
        name,
        platform: flags.text("platform"),
        text: request.line.text.trim().to_owned(),
        commands: Vec::new(),
    })
}

fn one(request: &Request, name: &str) -> Result<String> {
    request.flags(&[])?;
    if request.rest.is_empty() {
        return Err(Error::invalid(format!(
            "{name} requires exactly one argument"
        )));
    }
    Ok(request.rest.clone())
}

fn pairs(request: &Request, name: &str) -> Result<Vec<(String, String)>> {
    request.flags(&[])?;
    let pairs = words::pairs(&request.rest, request.escape, name)?;
    if pairs.is_empty() {
        return Err(at_least_one(name));
    }
    if pairs.iter().any(|(key, _)| key.is_empty()) {
        return Err(Error::invalid(format!("{name} names can not be blank")));
    }
    Ok(pairs)
}

fn arg(request: &Request) -> Result<Instruction> {
    request.flags(&[])?;
    let args = words::words(&request.rest, request.escape);
    if args.is_empty() {
        return Err(at_least_one("ARG"));
    }
    args.into_iter()
        .map(|arg| match arg.split_once('=') {
            Some(("", _)) => Err(Error::invalid("ARG names can not be blank")),
            Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
            None => Ok((arg, None)),
        })
        .collect::<Result<_>>()
        .map(Instruction::Arg)
}

fn command_line(request: &Request, empty_is_none: bool) -> Result<CommandLine> {
    request.flags(&[])?;
    line_of(&request.rest, empty_is_none)
}

fn line_of(text: &str, empty_is_none: bool) -> Result<CommandLine> {
    if text.is_empty() {
        return Ok(CommandLine {
            args: (!empty_is_none).then(Vec::new),
            shell: true,
        });
    }
    Ok(match words::maybe_json(text)? {
        Arguments::Json(args) => CommandLine {
            args: (!args.is_empty() || !empty_is_none).then_some(args),
            shell: false,
        },
        Arguments::Text(text) => CommandLine {
            args: Some(vec![text]),
            shell: true,
        },
    })
}

fn run(request: &Request) -> Result<Instruction> {
    let flags = request.flags(&[
        ("mount", Kind::List),
        ("network", Kind::Text),
        ("security", Kind::Text),
        ("device", Kind::List),
    ])?;
    if let Some(security) = flags.text("security").filter(|s| s != "sandbox") {
        return Err(Error::invalid(format!(
            "RUN --security={security} is not allowed: steps run in a sandbox"
        )));
    }
    if !flags.list("device").is_empty() {
        return Err(Error::invalid(
            "RUN --device is not supported: build steps get no devices of the host",
        ));
    }
    let network = flags.text("network");
    if let Some(mode) = network
        .as_deref()
        .filter(|mode| !matches!(*mode, "default" | "none" | "host"))
    {
        return Err(Error::invalid(format!("unsupported network mode {mode:?}")));
    }
    let line = line_of(&request.rest, false)?;
    Ok(Instruction::Run(Run {
        line,
        heredocs: request.line.heredocs.clone(),
        network,
        mounts: flags
            .list("mount")
            .iter()
            .map(|text| Mount::parse(text))
            .collect::<Result<_>>()?,
    }))
}

fn copy(request: &Request) -> Result<Instruction> {
    let flags = request.flags(&[
        ("from", Kind::Text),
        ("chown", Kind::Text),
        ("chmod", Kind::Text),
        ("link", Kind::Switch),
        ("parents", Kind::Switch),
        ("exclude", Kind::List),
    ])?;
    let mut copy = sources_and_destination(request, "COPY")?;
    copy.from = flags.text("from");
    copy.parents = flags.switch("parents");
    copy_flags(&mut copy, &flags);
    Ok(Instruction::Copy(copy))
}

fn add(request: &Request) -> Result<Instruction> {
    let flags = request.flags(&[
        ("chown", Kind::Text),
        ("chmod", Kind::Text),
        ("link", Kind::Switch),
        ("keep-git-dir", Kind::Switch),
        ("checksum", Kind::Text),
        ("unpack", Kind::Switch),
        ("exclude", Kind::List),
    ])?;
    let mut copy = sources_and_destination(request, "ADD")?;
    copy.checksum = flags.text("checksum");
    copy.unpack = flags.optional_switch("unpack");
    copy.keep_git_dir = flags.switch("keep-git-dir");
    copy_flags(&mut copy, &flags);
    Ok(Instruction::Add(copy))
}

/// `--link` is accepted and needs nothing: a layer does not depend on those below it anyway.
fn copy_flags(copy: &mut Copy, flags: &Flags) {
    copy.chown = flags.text("chown");
    copy.chmod = flags.text("chmod");
    copy.exclude = flags.list("exclude");
}

fn sources_and_destination(request: &Request, name: &str) -> Result<Copy> {
    let mut args = words::json_or_words(&request.rest)?;
    if args.len() < 2 {
        return Err(Error::invalid(format!(
            "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        )));
    }
    let destination = args.pop().unwrap_or_default();
    if heredoc_word(&destination, request.escape).is_some() {
        return Err(Error::invalid(format!(
            "{name} cannot accept a heredoc as a destination"
        )));
    }
    let (named, sources): (Vec<_>, Vec<_>) = args
        .into_iter()
        .map(|arg| (heredoc_word(&arg, request.escape), arg))
        .partition(|(heredoc, _)| heredoc.is_some() && !request.line.heredocs.is_empty());
    let mut files = Vec::new();
    for (heredoc, _) in named {
        let name = heredoc.map(|h| h.name).unwrap_or_default();
        let found = request.line.heredocs.iter().find(|h| h.name == name);
        files.extend(found.cloned());
    }
    Ok(Copy {
        sources: sources.into_iter().map(|(_, source)| source).collect(),
        files,
        destination,
        ..Copy::default()
    })
}

fn expose(request: &Request) -> Result<Instruction> {
    request.flags(&[])?;
    let mut ports = words::plain_words(&request.rest);
    if ports.is_empty() {
        return Err(at_least_one("EXPOSE"));
    }
    ports.sort();
    Ok(Instruction::Expose(ports))
}

fn volume(request: &Request) -> Result<Instruction> {
    request.flags(&[])?;
    let volumes: Vec<String> = words::json_or_words(&request.rest)?
        .into_iter()
        .map(|volume| volume.trim().to_owned())
        .collect();
    if volumes.is_empty() {
        return Err(at_least_one("VOLUME"));
    }
    if volumes.iter().any(String::is_empty) {
        return Err(Error::invalid(
            "VOLUME specified can not be an empty string",
        ));
    }
    Ok(Instruction::Volume(volumes))
}

fn shell(request: &Request) -> Result<Instruction> {
    request.flags(&[])?;
    if request.rest.is_empty() {
        return Err(at_least_one("SHELL"));
    }
    match words::maybe_json(&request.rest)? {
        Arguments::Json(args) if args.is_empty() => Err(at_least_one("SHELL")),
        Arguments::Json(args) => Ok(Instruction::Shell(args)),
        Arguments::Text(_) => Err(Error::invalid(format!(
            "SHELL requires the arguments to be in JSON form. original instruction: {}",
            quote(&request.line.text)
        ))),
    }
}

fn onbuild(request: &Request) -> Result<Instruction> {
    request.flags(&[])?;
    let trigger = words::plain_words(&request.rest)
        .first()
        .map(|word| word.to_ascii_uppercase())
        .ok_or_else(|| at_least_one("ONBUILD"))?;
    match trigger.as_str() {
        "ONBUILD" => {
            return Err(Error::invalid(
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            ));
        }
        "FROM" | "MAINTAINER" => {
            return Err(Error::invalid(format!(
                "{trigger} isn't allowed as an ONBUILD trigger"
            )));
        }
        _ => {}
    }
    let text = request.line.text.trim_start();
    let mut expression = text["onbuild".len()..].trim_start().to_owned();
    // What it says is checked now, not when the image is used.
    parse_line(
        &Line {
            text: expression.clone(),
            number: request.line.number,
            heredocs: request.line.heredocs.clone(),
        },
        request.escape,
    )?;
    for heredoc in &request.line.heredocs {
        expression.push('\n');
        expression.push_str(&heredoc.content);
        expression.push_str(&heredoc.name);
    }
    Ok(Instruction::Onbuild(expression))
}

fn healthcheck(request: &Request) -> Result<Instruction> {
    let (kind, rest) = match request.rest.find(char::is_whitespace) {
        Some(end) => (&request.rest[..end], request.rest[end..].trim_start()),
        None => (request.rest.as_str(), ""),
    };
    match kind.to_ascii_uppercase().as_str() {
        "" => return Err(at_least_one("HEALTHCHECK")),
        "NONE" if rest.is_empty() => {
            return Ok(Instruction::Healthcheck(Healthcheck {
                test: vec!["NONE".into()],
                ..Default::default()
            }));
        }
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" => {}
        other => {
            return Err(Error::invalid(format!(
                "Unknown type {} in HEALTHCHECK (try CMD)",
                quote(other)
            )));
        }
    }
    let flags = request.flags(&[
        ("interval", Kind::Text),
        ("timeout", Kind::Text),
        ("start-period", Kind::Text),
        ("start-interval", Kind::Text),
        ("retries", Kind::Text),
    ])?;
    let line = line_of(rest, false)?;
    let args = line.args.unwrap_or_default();
    if args.is_empty() {
        return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
    }
    let mut test = vec![if line.shell { "CMD-SHELL" } else { "CMD" }.to_owned()];
    test.extend(args);
    Ok(Instruction::Healthcheck(Healthcheck {
        test,
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(&flags)?,
    }))
}

fn interval(flags: &Flags, name: &str) -> Result<i64> {
    let Some(text) = flags.text(name) else {
        return Ok(0);
    };
    let nanos = parse_duration(&text).map_err(Error::invalid)?;
    if nanos != 0 && nanos < 1_000_000 {
        return Err(Error::invalid(format!(
            "Interval {} cannot be less than 1ms",
            quote(name)
        )));
    }
    Ok(nanos)
}

fn retries(flags: &Flags) -> Result<i64> {
    let Some(text) = flags.text("retries") else {
        return Ok(0);
    };
    let number: i32 = text.parse().map_err(|_| {
        Error::invalid(format!(
            "strconv.ParseInt: parsing {}: invalid syntax",
            quote(&text)
        ))
    })?;
    if number < 0 {
        return Err(Error::invalid(format!(
            "--retries cannot be negative ({number})"
        )));
    }
    Ok(number.into())
}

#[cfg(test)]
mod tests;
