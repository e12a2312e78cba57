//! What a build tells while it runs.

use berth_distribution::Progress;
use berth_spec::Digest;
use bytes::Bytes;

/// One thing that happened. A face turns these into Docker's message stream: [`Text`](Self::Text)
/// and [`Output`](Self::Output) become `{"stream": …}`, [`Aux`](Self::Aux) `{"aux": {"ID": …}}`.
///
/// With the `q` option the text is kept back (and shown only if the build fails), and the image's
/// ID is all that is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// The builder's own words, whole lines with their newline: `Step 1/6 : FROM …`,
    /// ` ---> 4ae2a0b1e6c9`, ` ---> Using cache`, `Successfully built 4ae2a0b1e6c9`.
    Text(String),
    /// Bytes of a step.
    Output {
        /// Docker shows standard error between `ESC[91m` and `ESC[0m`.
        stream: StdStream,
        /// As they came, not cut at lines.
        bytes: Bytes,
    },
    /// A remark about the Dockerfile; one line without its newline.
    Warning(String),
    /// A base image is being fetched.
    Pull(Progress),
    /// A stage is finished: its image's ID.
    Aux(Digest),
}

/// Where a step's bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
