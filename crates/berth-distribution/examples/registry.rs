//! A registry in as few lines as it takes: `registry ADDRESS ROOT`.

use berth_distribution::server::{Registry, Settings};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(root)) = (args.next(), args.next()) else {
        return Err("usage: registry ADDRESS ROOT".into());
    };
    let registry = Registry::open(Settings {
        address,
        root: root.into(),
        ..Settings::default()
    })
    .await?;
    println!("listening on {}", registry.address()?);
    let (_end, ending) = watch::channel(false);
    registry.serve(ending).await;
    Ok(())
}
