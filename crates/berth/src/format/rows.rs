//! Lists: tables, one line per row by a template, or JSON lines.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use gotmpl::Value;

use super::template::{Data, LABELS, parse};
use super::tree::Tree;
use crate::failure::{Failure, Outcome};

/// A column that templates can name: the field and the title it has in a table.
pub type Field = (&'static str, &'static str);

/// One row: the values of its fields.
#[derive(Debug, Default, Clone)]
pub struct Row {
    values: BTreeMap<Arc<str>, Value>,
}

impl Row {
    /// Sets a field.
    pub fn set(&mut self, field: &str, text: impl Into<String>) -> &mut Self {
        let text: String = text.into();
        self.values.insert(field.into(), Value::String(text.into()));
        self
    }

    /// Sets a field that is not text.
    pub fn set_value(&mut self, field: &str, value: Value) -> &mut Self {
        self.values.insert(field.into(), value);
        self
    }

    /// Sets what `.Label "name"` finds.
    pub fn set_labels(&mut self, labels: &BTreeMap<String, String>) -> &mut Self {
        let map = labels
            .iter()
            .map(|(k, v)| (k.as_str().into(), Value::String(v.as_str().into())));
        self.values
            .insert(LABELS.into(), Value::Map(Arc::new(map.collect())));
        self
    }

    fn into_value(mut self) -> Value {
        self.values
            .entry(LABELS.into())
            .or_insert_with(|| Value::Map(Arc::default()));
        Value::Map(Arc::new(self.values))
    }
}

/// A format as the user or a default gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    template: String,
    table: bool,
}

impl Format {
    /// `table …`, `json`, or a template.
    pub fn new(source: &str) -> Self {
        let (template, table) = match source.strip_prefix("table") {
            Some(rest) => (rest, true),
            None if source == "json" => ("{{json .}}", false),
            None => (source, false),
        };
        Format {
            template: template
                .trim_matches(' ')
                .replace("\\t", "\t")
                .replace("\\n", "\n"),
            table,
        }
    }

    /// Whether a template names this field.
    pub fn names(&self, field: &str) -> bool {
        self.template.contains(&format!(".{field}"))
    }

    /// What the rows are printed as.
    pub fn render(&self, fields: &[Field], rows: Vec<Row>) -> Outcome<String> {
        let parsed = parse(&self.template, Data::default(), true)
            .map_err(|e| Failure::new(format!("template parsing error: {e}")))?;
        let mut body = String::new();
        for row in rows {
            let line = parsed
                .execute(&row.into_value())
                .map_err(|e| Failure::new(format!("template parsing error: {e}")))?;
            body.push_str(&line);
            body.push('\n');
        }
        if !self.table {
            return Ok(body);
        }
        Ok(aligned(&format!("{}\n{body}", self.header(fields))))
    }

    /// The line of titles: the same template over the titles, with functions that would
    /// change them taken out.
    fn header(&self, fields: &[Field]) -> String {
        let mut titles = Row::default();
        for (field, title) in fields {
            titles.set(field, *title);
        }
        // The titles are text without quotes; `json` would quote them.
        let plain = strip_functions(&self.template);
        parse(&plain, Data::default(), false)
            .and_then(|parsed| parsed.execute(&titles.into_value()))
            .unwrap_or_default()
    }
}

/// `{{json .X}}` as `{{.X}}`: titles are not changed by functions.
fn strip_functions(template: &str) -> String {
    let mut out = template.to_owned();
    for function in ["json", "lower", "upper", "title"] {
        out = out.replace(&format!("{{{{{function} ."), "{{.");
        out = out.replace(&format!("{{{{ {function} ."), "{{.");
        out = out.replace(&format!("| {function}"), "");
        out = out.replace(&format!("|{function}"), "");
    }
    out
}

/// Columns aligned as Go's tabwriter does with Docker's settings: at least ten wide, three
/// apart.
pub fn aligned(text: &str) -> String {
    aligned_to(text, 10, 3)
}

/// Columns at least `width` wide, `apart` of it between them.
pub fn aligned_to(text: &str, width: usize, apart: usize) -> String {
    let mut writer = tabwriter::TabWriter::new(Vec::new())
        .minwidth(width.saturating_sub(apart))
        .padding(apart);
    // Writing to memory does not fail.
    let _ = writer.write_all(text.as_bytes());
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Prints the rows.
pub fn print(format: &str, fields: &[Field], rows: Vec<Row>) -> Outcome {
    let text = Format::new(format).render(fields, rows)?;
    super::write_stdout(text.as_bytes())
}

/// Prints one value by a template or as JSON: `info --format`, `version --format`.
pub fn print_value(format: &str, tree: &Tree) -> Outcome {
    let format = if format == "json" {
        "{{json .}}"
    } else {
        format
    };
    let mut data = Data::with_go_names();
    let value = data.value(tree);
    let text = parse(format, data, true)
        .and_then(|parsed| parsed.execute(&value))
        .map_err(|e| Failure::with_code(64, format!("template parsing error: {e}")))?;
    super::write_stdout(format!("{text}\n").as_bytes())
}

/// Text cut to `width` characters, the last of them an ellipsis.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        [("a", "1"), ("a-long-name-indeed", "2")]
            .map(|(name, size)| {
                let mut row = Row::default();
                row.set("Name", name).set("Size", size);
                row
            })
            .to_vec()
    }

    const FIELDS: [Field; 2] = [("Name", "NAME"), ("Size", "SIZE")];

    #[test]
    fn tables_are_aligned() {
        let text = Format::new("table {{.Name}}\\t{{.Size}}")
            .render(&FIELDS, rows())
            .unwrap();
        assert_eq!(
            text,
            "NAME                 SIZE\na                    1\na-long-name-indeed   2\n"
        );
        let text = Format::new("table {{.Size}}\t{{.Size}}")
            .render(&FIELDS, rows())
            .unwrap();
        assert_eq!(text, "SIZE      SIZE\n1         1\n2         2\n");
    }

    #[test]
    fn rows_as_json_have_their_fields_sorted() {
        let text = Format::new("json").render(&FIELDS, rows()).unwrap();
        assert_eq!(text.lines().next(), Some(r#"{"Name":"a","Size":"1"}"#));
    }

    #[test]
    fn an_unknown_field_is_told() {
        let error = Format::new("{{.Nope}}")
            .render(&FIELDS, rows())
            .unwrap_err();
        assert!(
            error
                .message
                .starts_with("template parsing error: template: "),
            "{error}"
        );
    }
}
