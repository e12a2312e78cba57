//! `--gpus all`, `--gpus device=…,capabilities=…`.

use berth_spec::docker::config::DeviceRequest;

use super::csv;
use super::key_value::to_map;

/// Reads one.
pub fn parse(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut seen: Vec<String> = Vec::new();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, value),
            None => ("count", field.as_str()),
        };
        if seen.iter().any(|s| s == key) {
            return Err(format!(
                "gpu request key '{key}' can be specified only once"
            ));
        }
        seen.push(key.to_owned());
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match key {
            "driver" => request.driver = value.to_owned(),
            "count" => request.count = count(value)?,
            "device" => request.device_ids = Some(list()),
            "capabilities" => {
                let mut capabilities = list();
                capabilities.push("gpu".to_owned());
                request.capabilities = Some(vec![capabilities]);
            }
            "options" => request.options = Some(to_map(&csv::fields(value)?)),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen.iter().any(|s| s == "count") && request.device_ids.is_none() {
        request.count = 1;
    }
    request.options.get_or_insert_default();
    request
        .capabilities
        .get_or_insert_with(|| vec![vec!["gpu".to_owned()]]);
    Ok(request)
}

fn count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| {
        format!(
            "invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let all = parse("all").unwrap();
        assert_eq!(
            (all.count, all.capabilities),
            (-1, Some(vec![vec!["gpu".into()]]))
        );
        let some = parse("\"device=1,2\",capabilities=utility").unwrap();
        assert_eq!(some.device_ids, Some(vec!["1".into(), "2".into()]));
        assert_eq!(some.count, 0);
        assert!(parse("x").is_err() && parse("1,count=2").is_err());
    }
}
