//! `WORKDIR`: a setting, and a directory where there is none.

use crate::cache::Outcome;
use crate::copy::NewLayer;
use crate::dockerfile::Expander;
use crate::graph::KeyMaker;
use crate::solve::{Solver, State};
use crate::source::Rootfs;
use crate::variables::in_scope;
use crate::{Result, metadata};

pub(crate) fn workdir(solver: &mut Solver, state: &mut State, path: &str) -> Result<()> {
    let variables = in_scope(&state.image.config.env, &state.arguments);
    let path = Expander::new(solver.job.file.escape).word(path, &variables)?;
    let path = metadata::workdir(&state.image.config.working_dir, &path)?;
    let key = KeyMaker::new("workdir")
        .layers(state.layers())
        .part(&path)
        .finish();
    state.image.config.working_dir.clone_from(&path);
    let created_by = state.nop(&format!("WORKDIR {path}"));
    if let Some(outcome) = solver.known(&key)? {
        return state.record(&Outcome {
            created_by,
            ..outcome
        });
    }
    let id = solver.running()?;
    let created = solver.now();
    let seconds = created
        .parse::<jiff::Timestamp>()
        .map_or(0, jiff::Timestamp::as_second);
    let below = Rootfs::open(solver.store(), state.layers())?;
    let mut layer = NewLayer::new(&below, seconds);
    layer.make_directory(&path, None)?;
    let layer = match layer.is_empty() {
        true => None,
        false => {
            let layers = solver.store().layers();
            Some(
                layers
                    .import(&solver.lease, &mut layer.stream(), None)?
                    .diff_id,
            )
        }
    };
    let outcome = Outcome {
        created,
        layer,
        created_by,
    };
    solver.learn(&key, &outcome)?;
    state.record(&outcome)?;
    if solver.job.request.remove || solver.job.request.force_remove {
        solver.removed(&id)?;
    }
    Ok(())
}
