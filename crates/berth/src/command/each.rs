//! Verbs that do one thing to each of their words.

use futures_util::stream::{self, StreamExt};

use crate::failure::{Failure, Outcome};

/// How many are done at a time, as Docker has it.
const AT_ONCE: usize = 50;

/// Does something to each word, many at a time; prints in the order given what succeeded on
/// standard output and what failed at the end, together.
pub async fn each<F>(words: &[String], action: impl Fn(String) -> F) -> Outcome
where
    F: Future<Output = Result<String, berth_client::Error>>,
{
    let mut results = stream::iter(words.to_vec()).map(action).buffered(AT_ONCE);
    let mut failed = Vec::new();
    while let Some(result) = results.next().await {
        match result {
            Ok(text) => println!("{text}"),
            Err(e) => failed.push(e.to_string()),
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failed.join("\n")))
    }
}
