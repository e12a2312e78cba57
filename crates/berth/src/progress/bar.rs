//! One bar: `[=====>     ]  1.2MB/3.4MB`.

use berth_spec::docker::stream::ProgressDetail;

use crate::format::size;

/// Characters between the brackets.
const LENGTH: usize = 50;
/// A terminal narrower than this gets no bar.
const LEAST_COLUMNS: usize = 110;

/// The text for how far a transfer is; empty where that is unknown.
pub fn text(detail: &ProgressDetail, columns: usize) -> String {
    let (current, total) = (detail.current, detail.total);
    if current == 0 && total == 0 {
        return String::new();
    }
    let amount = |n: u64| size::human(n as f64);
    if total == 0 {
        return if detail.units.is_empty() {
            format!("{:>8}", amount(current))
        } else {
            format!("{current} {}", detail.units)
        };
    }
    let filled = ((current as f64 / total as f64 * 100.0) as usize / 2).min(LENGTH);
    let bar = if columns > LEAST_COLUMNS {
        format!("[{}>{}] ", "=".repeat(filled), " ".repeat(LENGTH - filled))
    } else {
        String::new()
    };
    let numbers = if detail.hidecounts {
        String::new()
    } else if detail.units.is_empty() {
        match current > total {
            true => format!("{:>8}", amount(current)),
            false => format!("{:>8}/{}", amount(current), amount(total)),
        }
    } else if current > total {
        format!("{current} {}", detail.units)
    } else {
        format!("{current}/{total} {}", detail.units)
    };
    bar + &numbers
}
