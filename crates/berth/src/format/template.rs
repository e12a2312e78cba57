//! Go templates with Docker's functions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use gotmpl::{MissingKey, Template, TemplateError, Value};
use regex::Regex;

use super::json;
use super::tree::Tree;

type Result<T> = std::result::Result<T, TemplateError>;

/// Data for templates, made from JSON, which remembers the order of members for `json`.
#[derive(Default)]
pub struct Data {
    /// By the address of the list or map that was made from it, which `kept` keeps alive.
    sources: HashMap<usize, String>,
    kept: Vec<Value>,
    go_names: bool,
}

/// Members by their names in Docker's Go types, where the JSON has others.
const GO_NAMES: [(&str, &str); 20] = [
    ("Id", "ID"),
    ("ApiVersion", "APIVersion"),
    ("CpuCount", "CPUCount"),
    ("CpuPercent", "CPUPercent"),
    ("CpuPeriod", "CPUPeriod"),
    ("CpuQuota", "CPUQuota"),
    ("CpuRealtimePeriod", "CPURealtimePeriod"),
    ("CpuRealtimeRuntime", "CPURealtimeRuntime"),
    ("CpuShares", "CPUShares"),
    ("Dns", "DNS"),
    ("DnsOptions", "DNSOptions"),
    ("DnsSearch", "DNSSearch"),
    ("HostIp", "HostIP"),
    ("HttpProxy", "HTTPProxy"),
    ("HttpsProxy", "HTTPSProxy"),
    ("NanoCpus", "NanoCPUs"),
    ("CpuCfsPeriod", "CPUCfsPeriod"),
    ("CpuCfsQuota", "CPUCfsQuota"),
    ("NFd", "NFD"),
    ("IOMaximumIOps", "IOMaximumIOPS"),
];

/// Members that Docker's types have and its JSON leaves out when they are empty: by a member
/// that tells the type.
const LEFT_OUT: [(&str, &str); 12] = [
    ("OOMKilled", "Health"),
    ("OnBuild", "Healthcheck"),
    ("OnBuild", "ExposedPorts"),
    ("OnBuild", "StopSignal"),
    ("OnBuild", "StopTimeout"),
    ("OnBuild", "Shell"),
    ("ShmSize", "Mounts"),
    ("ShmSize", "Tmpfs"),
    ("ShmSize", "Init"),
    ("ShmSize", "Sysctls"),
    ("MountLabel", "SizeRw"),
    ("MountLabel", "SizeRootFs"),
];

impl Data {
    /// Data whose members also answer to their names in Docker's Go types.
    pub fn with_go_names() -> Self {
        Data {
            go_names: true,
            ..Data::default()
        }
    }

    fn complete(members: &mut BTreeMap<Arc<str>, Value>) {
        for (json, go) in GO_NAMES {
            if let Some(value) = members.get(json).cloned() {
                members.entry(go.into()).or_insert(value);
            }
        }
        for (mark, name) in LEFT_OUT {
            if members.contains_key(mark) {
                members.entry(name.into()).or_insert(Value::Nil);
            }
        }
    }

    /// Makes the data for a template out of JSON.
    pub fn value(&mut self, tree: &Tree) -> Value {
        let value = match tree {
            Tree::Null => Value::Nil,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Int(value) => Value::Int(*value),
            Tree::Uint(value) => Value::Uint(*value),
            Tree::Float(value) => Value::Float(*value),
            Tree::Text(text) => Value::String(text.as_str().into()),
            Tree::List(values) => {
                let values: Vec<_> = values.iter().map(|v| self.value(v)).collect();
                Value::List(values.into())
            }
            Tree::Object(members) => {
                let mut members: BTreeMap<Arc<str>, Value> = members
                    .iter()
                    .map(|(name, v)| (name.as_str().into(), self.value(v)))
                    .collect();
                if self.go_names {
                    Self::complete(&mut members);
                }
                Value::Map(Arc::new(members))
            }
        };
        if let Some(address) = address(&value) {
            // Trees are read from JSON; writing one cannot fail.
            let text = serde_json::to_string(tree).unwrap_or_default();
            self.sources.insert(address, text);
            self.kept.push(value.clone());
        }
        value
    }
}

fn address(value: &Value) -> Option<usize> {
    match value {
        Value::Map(map) => Some(Arc::as_ptr(map).cast::<()>() as usize),
        Value::List(list) if !list.is_empty() => Some(list.as_ptr() as usize),
        _ => None,
    }
}

/// A template ready to be executed.
pub struct Ready {
    template: Template,
    source: String,
}

impl Ready {
    /// Executes it.
    pub fn execute(&self, value: &Value) -> std::result::Result<String, String> {
        let executed = self.template.execute_to_string(value);
        // Nothing is missing here; what is nil is a pointer of Docker's types.
        let executed = executed.map(|text| text.replace("<no value>", "<nil>"));
        executed.map_err(|e| in_go_words(&self.source, &e.to_string()))
    }
}

/// Parses a template for values of `data`.
pub fn parse(source: &str, data: Data, strict: bool) -> std::result::Result<Ready, String> {
    static LABEL: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"\$?\.Label\s+(["`])"#).ok());
    // Docker's rows have one method that takes an argument; here it is a function.
    let text = match &*LABEL {
        Some(label) => label.replace_all(source, "__label $$ $1"),
        None => source.into(),
    };
    let template = functions(Template::new(""), data).missing_key(if strict {
        MissingKey::Error
    } else {
        MissingKey::ZeroValue
    });
    template
        .parse(&text)
        .map(|template| Ready {
            template,
            source: source.to_owned(),
        })
        .map_err(|e| in_go_words("", &e.to_string()))
}

/// A mistake as Go tells it: with the line, or with the place of the field.
fn in_go_words(source: &str, error: &str) -> String {
    if let Some(rest) = error.strip_prefix("template: ")
        && let Some((place, message)) = rest.split_once(": ")
        && let Some((line, _)) = place.split_once(':')
    {
        return format!("template: :{line}: {message}");
    }
    let Some(key) = error.strip_prefix("map has no entry for key: ") else {
        return error.to_owned();
    };
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let field = format!(".{key}");
    let end = source
        .match_indices(&field)
        .map(|(at, _)| at + field.len())
        .find(|end| !source[*end..].starts_with(word));
    let Some(end) = end else {
        return format!("map has no entry for key {key:?}");
    };
    let begin = source[..end]
        .rfind(|c: char| !word(c) && c != '.')
        .map_or(0, |at| at + 1);
    let chain = &source[begin..end];
    // Go tells the place of the second field where there are several.
    let second = chain[1..].find('.').map_or(0, |at| at + 1);
    let place = begin + second;
    format!("template: :1:{place}: executing \"\" at <{chain}>: map has no entry for key {key:?}")
}

fn functions(template: Template, data: Data) -> Template {
    template
        .func("json", move |args| {
            Ok(Value::String(to_json(arg(args, 0)?, &data).into()))
        })
        .func("__label", |args| {
            let labels = arg(args, 0)?.field(LABELS).cloned().unwrap_or(Value::Nil);
            let name = text(args, 1)?;
            Ok(labels
                .field(&name)
                .cloned()
                .unwrap_or_else(|| Value::String("".into())))
        })
        .func("split", |args| {
            let (source, separator) = (text(args, 0)?, text(args, 1)?);
            let parts: Vec<_> = source
                .split(separator.as_str())
                .map(|part| Value::String(part.into()))
                .collect();
            Ok(Value::List(parts.into()))
        })
        .func("join", |args| {
            let separator = text(args, 1)?;
            let parts: Vec<_> = match arg(args, 0)? {
                Value::List(values) => values.iter().map(ToString::to_string).collect(),
                Value::Nil => Vec::new(),
                other => {
                    return Err(TemplateError::Exec(format!(
                        "wrong type for value; expected []string; got {}",
                        other.type_name()
                    )));
                }
            };
            Ok(Value::String(parts.join(&separator).into()))
        })
        .func("title", |args| {
            let mut begins = true;
            let title: String = text(args, 0)?
                .chars()
                .flat_map(|c| {
                    let upper = begins;
                    begins = !c.is_alphanumeric() && c != '_' && c != '\'';
                    if upper {
                        c.to_uppercase().collect::<Vec<_>>()
                    } else {
                        vec![c]
                    }
                })
                .collect();
            Ok(Value::String(title.into()))
        })
        .func("lower", |args| {
            Ok(Value::String(text(args, 0)?.to_lowercase().into()))
        })
        .func("upper", |args| {
            Ok(Value::String(text(args, 0)?.to_uppercase().into()))
        })
        .func("pad", |args| {
            let source = text(args, 0)?;
            if source.is_empty() {
                return Ok(Value::String("".into()));
            }
            let spaces = |index| Ok::<_, TemplateError>(" ".repeat(count(args, index)?));
            Ok(Value::String(
                format!("{}{source}{}", spaces(1)?, spaces(2)?).into(),
            ))
        })
        .func("truncate", |args| {
            let source = text(args, 0)?;
            let length = count(args, 1)?;
            let end = (0..=length.min(source.len()))
                .rev()
                .find(|&at| source.is_char_boundary(at))
                .unwrap_or(0);
            Ok(Value::String(source[..end].into()))
        })
}

/// Where a row keeps its labels for `.Label "name"`.
pub const LABELS: &str = "\0labels";

fn arg(args: &[Value], index: usize) -> Result<&Value> {
    args.get(index)
        .ok_or_else(|| TemplateError::Exec(format!("wrong number of args: want {}", index + 1)))
}

fn text(args: &[Value], index: usize) -> Result<String> {
    match arg(args, index)? {
        Value::String(text) => Ok(text.to_string()),
        Value::Nil => Ok(String::new()),
        other => Err(TemplateError::Exec(format!(
            "wrong type for value; expected string; got {}",
            other.type_name()
        ))),
    }
}

fn count(args: &[Value], index: usize) -> Result<usize> {
    /// Longest padding, in characters.
    const MOST: i64 = 1 << 16;
    let number = arg(args, index)?.as_int().unwrap_or(0);
    usize::try_from(number.min(MOST))
        .map_err(|_| TemplateError::Exec("strings: negative Repeat count".to_owned()))
}

fn to_json(value: &Value, data: &Data) -> String {
    if let Some(source) = address(value).and_then(|at| data.sources.get(&at)) {
        return source.clone();
    }
    let mut out = String::new();
    write_json(value, data, &mut out);
    out
}

fn write_json(value: &Value, data: &Data, out: &mut String) {
    match value {
        Value::List(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(&to_json(value, data));
            }
            out.push(']');
        }
        Value::Map(members) => {
            // A row of a table: Go's encoder of maps escapes for HTML.
            let row = members.contains_key(LABELS);
            let mut first = true;
            out.push('{');
            for (name, value) in members.iter().filter(|(name, _)| !name.starts_with('\0')) {
                out.push_str(if first { "" } else { "," });
                first = false;
                out.push_str(&quoted(name));
                out.push(':');
                let text = to_json(value, data);
                out.push_str(&if row { json::escape_html(&text) } else { text });
            }
            out.push('}');
        }
        Value::String(text) => out.push_str(&quoted(text)),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(_) | Value::Uint(_) | Value::Float(_) => out.push_str(&value.to_string()),
        _ => out.push_str("null"),
    }
}

fn quoted(text: &str) -> String {
    // Text is always writable.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_in_gos_words() {
        for (template, error) in [
            (
                "{{.Foo}}",
                "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"",
            ),
            (
                "x{{.a.b}}",
                "template: :1:5: executing \"\" at <.a.b>: map has no entry for key \"b\"",
            ),
            ("{{", "template: :1: unclosed action"),
        ] {
            let mut data = Data::default();
            let value = data.value(&serde_json::from_str(r#"{"a":{}}"#).unwrap());
            let result = parse(template, data, true).and_then(|t| t.execute(&value));
            assert_eq!(result.unwrap_err(), error, "{template}");
        }
    }

    fn run(template: &str, json: &str) -> String {
        let mut data = Data::default();
        let value = data.value(&serde_json::from_str(json).unwrap());
        parse(template, data, true)
            .unwrap()
            .execute(&value)
            .unwrap()
    }

    #[test]
    fn dockers_functions() {
        for (template, json, text) in [
            (
                "{{json .}}",
                r#"{"b":1,"a":{"d":[],"c":null}}"#,
                r#"{"b":1,"a":{"d":[],"c":null}}"#,
            ),
            ("{{json .b}}", r#"{"b":"<x>"}"#, r#""<x>""#),
            ("{{join .a \",\"}}", r#"{"a":["x","y"]}"#, "x,y"),
            (
                "{{upper .a}}{{lower .a}}{{title .a}}",
                r#"{"a":"xY z"}"#,
                "XY Zxy zXY Z",
            ),
            ("{{index (split .a \":\") 1}}", r#"{"a":"x:y"}"#, "y"),
            ("[{{pad .a 1 2}}]", r#"{"a":"x"}"#, "[ x  ]"),
            ("{{truncate .a 2}}", r#"{"a":"xyz"}"#, "xy"),
            ("{{println .a}}", r#"{"a":1}"#, "1\n"),
            (
                "{{range $k, $v := .a}}{{$k}}={{$v}};{{end}}",
                r#"{"a":{"y":1,"x":2}}"#,
                "x=2;y=1;",
            ),
        ] {
            assert_eq!(run(template, json), text, "{template}");
        }
    }
}
