//! rename: another name for a container.

use std::collections::BTreeMap;

use berth_spec::id::parse_name;

use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Gives a container another name.
pub async fn rename(engine: &Engine, id: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    let name = parse_name(name)
        .map_err(|e| Error::invalid(e.to_string()))?
        .to_owned();
    let container = engine.0.containers.find(id)?;
    let _key = container.key.lock().await;
    let old = container.name();
    if old == name {
        return Err(Error::invalid(
            "Renaming a container with the same name as its current name",
        ));
    }
    engine.0.containers.reserve(&name, &container.id)?;
    let kept = container.change(&engine.0.db, |r| {
        r.name.clone_from(&name);
        for endpoint in r.sandbox.iter_mut().flat_map(|s| &mut s.endpoints) {
            endpoint.container_name.clone_from(&name);
        }
    });
    if let Err(error) = kept {
        engine.0.containers.free(&name, &container.id);
        return Err(error);
    }
    engine.0.containers.free(&old, &container.id);
    {
        let (engine, id, name) = (engine.clone(), container.id.clone(), name.clone());
        blocking(move || {
            engine.0.networks.rename(&id, &name);
            Ok::<_, Error>(())
        })
        .await?;
    }
    let attributes = BTreeMap::from([("oldName".to_owned(), format!("/{old}"))]);
    super::tell(engine, &container, "rename", attributes);
    Ok(())
}
