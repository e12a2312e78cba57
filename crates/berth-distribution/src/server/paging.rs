//! Long lists in pieces: `n`, `last` and the `Link` header (distribution-spec 1.1, "Listing Tags").

use http::header;

use super::fault::{Code, Fault, Reply};
use super::http::answer::Answer;
use super::http::query::Query;
use super::route::percent::encode;

/// Entries of a page where nobody says how many, and the most that anybody gets.
const PAGE: usize = 1000;

/// Which piece of a list is wanted.
pub(crate) struct Page {
    pub(crate) last: String,
    pub(crate) count: usize,
}

impl Page {
    /// What `n` and `last` of `query` say.
    pub(crate) fn of(query: &Query) -> Reply<Self> {
        let count = match query.get("n") {
            None | Some("") => PAGE,
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| {
                    Fault::new(
                        Code::PaginationNumberInvalid,
                        format!("invalid number of results: {text:?}"),
                    )
                })?
                .min(PAGE as u64) as usize,
        };
        Ok(Self {
            last: query.get("last").unwrap_or_default().to_owned(),
            count,
        })
    }

    /// How many entries to look for: one more than wanted tells whether there are more.
    pub(crate) fn look_for(&self) -> usize {
        if self.count == 0 { 0 } else { self.count + 1 }
    }

    /// Cuts `found` to size; the last entry that stays, where more follow.
    pub(crate) fn cut<T>(&self, found: &mut Vec<T>, name: impl Fn(&T) -> String) -> Option<String> {
        if found.len() <= self.count {
            return None;
        }
        found.truncate(self.count);
        found.last().map(name)
    }

    /// The header that leads to the next page; `more` are further parameters of `path`.
    pub(crate) fn link(
        &self,
        path: &str,
        next: Option<String>,
        more: &str,
        answer: Answer,
    ) -> Answer {
        let Some(next) = next else {
            return answer;
        };
        let (last, count) = (encode(&next), self.count);
        answer.header(
            header::LINK,
            format!("<{path}?n={count}&last={last}{more}>; rel=\"next\""),
        )
    }
}
