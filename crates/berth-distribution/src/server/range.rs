//! `Range` of a download (RFC 9110, section 14) and `Content-Range` of an upload's chunk
//! (distribution-spec 1.1, "Pushing a blob in chunks").

/// Which part of a thing is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Whole,
    /// From, and how many bytes.
    Part(u64, u64),
    /// No such part.
    Nothing,
}

/// Reads `Range`. What is not one range of bytes asks for the whole, as RFC 9110 has it.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) = header
        .and_then(|h| h.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", "") => Wanted::Whole,
        ("", suffix) => match number(suffix) {
            None => Wanted::Whole,
            Some(0) => Wanted::Nothing,
            Some(_) if size == 0 => Wanted::Nothing,
            Some(n) => Wanted::Part(size.saturating_sub(n), n.min(size)),
        },
        (first, last) => {
            let last = match last {
                "" => Some(u64::MAX),
                last => number(last),
            };
            match (number(first), last) {
                (Some(first), Some(last)) => {
                    // RFC 9110 would have a range that ends before it begins ignored; the
                    // specification's tests want it refused.
                    if first > last || first >= size {
                        return Wanted::Nothing;
                    }
                    let end = last.min(size - 1);
                    Wanted::Part(first, end - first + 1)
                }
                _ => Wanted::Whole,
            }
        }
    }
}

/// Reads `Content-Range: FIRST-LAST`; where it begins and how many bytes it has. The standard's own
/// form (`bytes FIRST-LAST/SIZE`) is understood too.
pub(crate) fn chunk(header: &str) -> Option<(u64, u64)> {
    let text = header.trim();
    let text = text
        .strip_prefix("bytes")
        .map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    let range = text.split('/').next()?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_downloads() {
        let of = |header| wanted(Some(header), 10);
        assert_eq!(of("bytes=0-3"), Wanted::Part(0, 4));
        assert_eq!(of("bytes=5-"), Wanted::Part(5, 5));
        assert_eq!(of("bytes=-3"), Wanted::Part(7, 3));
        assert_eq!(of("bytes=-30"), Wanted::Part(0, 10));
        assert_eq!(of("bytes=0-99999999999"), Wanted::Part(0, 10));
        assert_eq!(of("bytes=10-"), Wanted::Nothing);
        assert_eq!(of("bytes=-0"), Wanted::Nothing);
        assert_eq!(of("bytes=3-1"), Wanted::Nothing);
        for whole in ["bytes=a-b", "items=0-1", "bytes=0-1,3-4", "bytes=-"] {
            assert_eq!(of(whole), Wanted::Whole, "{whole}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
    }

    #[test]
    fn ranges_of_chunks() {
        assert_eq!(chunk("0-9"), Some((0, 10)));
        assert_eq!(chunk("bytes 10-19/20"), Some((10, 10)));
        for bad in ["", "9", "9-0", "a-b", "0-18446744073709551615"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }
}
