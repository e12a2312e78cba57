//! clap made to behave as Docker's flag library does: its notation (`--flag=false`), its
//! words for mistakes, its layout of help.

use std::ffi::OsString;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

/// Width of help where there is no terminal.
const WIDTH: usize = 80;

/// Gives every option of a command pflag's notation.
pub fn adapt(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .no_binary_name(true)
        .arg(
            Arg::new("help")
                .long("help")
                .action(ArgAction::Help)
                .hide(true),
        )
        .mut_args(adapt_arg)
}

fn adapt_arg(arg: Arg) -> Arg {
    if arg.is_positional() {
        return arg;
    }
    match arg.get_action() {
        ArgAction::SetTrue => {
            let default = if arg.get_default_values().is_empty() {
                "false"
            } else {
                "true"
            };
            arg.action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value(default)
                .value_parser(go_bool_parser())
        }
        ArgAction::Set | ArgAction::Append => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

fn go_bool_parser() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new([
        "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False",
    ])
    .map(|text| matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// What is wrong with the arguments, in pflag's words; `None` where help is asked for.
pub fn mistake(error: &clap::Error, command: &Command, args: &[OsString]) -> Option<String> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let flag = context(ContextKind::InvalidArg);
    let value = context(ContextKind::InvalidValue);
    Some(match error.kind() {
        ErrorKind::DisplayHelp => return None,
        ErrorKind::UnknownArgument => unknown(&flag, args),
        ErrorKind::InvalidValue if value.is_empty() => needs_argument(&flag, command, args),
        ErrorKind::InvalidValue => format!(
            "invalid argument {value:?} for {:?} flag: strconv.ParseBool: parsing {value:?}: invalid syntax",
            flag_name(&flag, command)
        ),
        ErrorKind::ValueValidation => {
            let source = std::error::Error::source(error).map(ToString::to_string);
            format!(
                "invalid argument {value:?} for {:?} flag: {}",
                flag_name(&flag, command),
                source.unwrap_or_else(|| "invalid value".to_owned())
            )
        }
        ErrorKind::NoEquals | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            needs_argument(&flag, command, args)
        }
        _ => error.to_string().trim_end().to_owned(),
    })
}

fn unknown(flag: &str, args: &[OsString]) -> String {
    let flag = flag.split('=').next().unwrap_or(flag);
    if flag.starts_with("--") {
        return format!("unknown flag: {flag}");
    }
    let letter = flag.trim_start_matches('-').chars().next().unwrap_or('-');
    let bundle = bundle_with(letter, args).unwrap_or_else(|| format!("-{letter}"));
    format!("unknown shorthand flag: {letter:?} in {bundle}")
}

/// The argument `-xyz` that holds this letter, from it on, as pflag shows it.
fn bundle_with(letter: char, args: &[OsString]) -> Option<String> {
    args.iter().find_map(|arg| {
        let arg = arg.to_str()?;
        let letters = arg.strip_prefix('-').filter(|l| !l.starts_with('-'))?;
        let at = letters.find(letter)?;
        Some(format!("-{}", &letters[at..]))
    })
}

fn needs_argument(flag: &str, command: &Command, args: &[OsString]) -> String {
    let short_at_end = args
        .last()
        .and_then(|arg| arg.to_str())
        .filter(|arg| arg.starts_with('-') && !arg.starts_with("--"))
        .and_then(|arg| arg.chars().last());
    let found = find(flag, command);
    if let (Some(letter), Some(arg)) = (short_at_end, found)
        && arg.get_short() == Some(letter)
    {
        return format!("flag needs an argument: {letter:?} in -{letter}");
    }
    let long = found
        .and_then(Arg::get_long)
        .map_or_else(|| flag.to_owned(), |long| format!("--{long}"));
    format!("flag needs an argument: {long}")
}

/// The argument that clap names `--long <VALUE>` or `-s <VALUE>`.
fn find<'a>(flag: &str, command: &'a Command) -> Option<&'a Arg> {
    let name = flag.split([' ', '=', '[']).next().unwrap_or(flag);
    command.get_arguments().find(|arg| {
        let long = arg
            .get_long()
            .is_some_and(|l| name.strip_prefix("--") == Some(l));
        let alias = arg
            .get_all_aliases()
            .unwrap_or_default()
            .iter()
            .any(|alias| name.strip_prefix("--") == Some(alias));
        let short = arg.get_short().is_some_and(|s| name == format!("-{s}"));
        long || alias || short
    })
}

/// `-m, --memory`, or `--memory` where there is no letter for it.
fn flag_name(flag: &str, command: &Command) -> String {
    match find(flag, command) {
        Some(arg) => match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (None, Some(long)) => format!("--{long}"),
            _ => flag.to_owned(),
        },
        None => flag.to_owned(),
    }
}

/// The options of a command as help lists them: sorted, aligned, wrapped.
pub fn options(command: &Command, width: usize) -> String {
    let mut rows: Vec<(String, String, String)> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
        .filter_map(|arg| Some((arg.get_long()?.to_owned(), left(arg), right(arg))))
        .collect();
    rows.sort();
    let column = rows.iter().map(|(_, l, _)| l.chars().count()).max();
    let column = column.unwrap_or(0) + 3;
    let mut out = String::new();
    for (_, left, text) in rows {
        let pad = column - left.chars().count();
        out.push_str(&left);
        out.push_str(&" ".repeat(pad));
        out.push_str(&wrap(column, width, &text));
        out.push('\n');
    }
    out
}

fn left(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    let mut text = match arg.get_short() {
        Some(short) => format!("  -{short}, --{long}"),
        None => format!("      --{long}"),
    };
    let takes_value = !matches!(arg.get_num_args(), Some(range) if range.min_values() == 0);
    if takes_value && let Some(name) = arg.get_value_names().and_then(|n| n.first()) {
        text.push(' ');
        text.push_str(name);
    }
    text
}

fn right(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let default: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|v| v.to_string_lossy().into_owned())
        .collect();
    let shown = default.join(",");
    let boolean = matches!(arg.get_num_args(), Some(range) if range.min_values() == 0);
    let number = shown.parse::<i64>().is_ok();
    if shown.is_empty() || shown == "false" || help.contains("(default") || shown == "0" {
        help
    } else if boolean || number {
        format!("{help} (default {shown})")
    } else {
        format!("{help} (default {shown:?})")
    }
}

/// Breaks text so that it fits beside a left column of width `indent`, as pflag does.
fn wrap(indent: usize, width: usize, text: &str) -> String {
    let indented = |text: &str| text.replace('\n', &format!("\n{}", " ".repeat(indent)));
    let room = width.saturating_sub(indent);
    // Too narrow to be worth it, as pflag sees it.
    if width == 0 || room < 24 {
        return indented(text);
    }
    // A few characters more are better than one word alone on a line.
    const SLOP: usize = 5;
    let room = room - SLOP;
    let mut out = String::new();
    let mut rest = text;
    loop {
        let (line, left) = split_line(room, SLOP, rest);
        if !out.is_empty() {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&indented(line));
        if left.is_empty() {
            return out;
        }
        rest = left;
    }
}

fn split_line(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let end = (0..=room)
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    let Some(space) = text[..end].rfind([' ', '\t', '\n']).filter(|&at| at > 0) else {
        return (text, "");
    };
    if let Some(newline) = text[..end].find('\n').filter(|&at| at > 0 && at < space) {
        return (&text[..newline], &text[newline + 1..]);
    }
    (&text[..space], &text[space + 1..])
}

/// The width help is wrapped to: the terminal's on standard input, as Docker has it.
pub fn width() -> usize {
    crate::terminal::size::of_stdin().map_or(WIDTH, |size| usize::from(size.columns)) - 1
}
