//! Whole builds over a real store: real layers, real snapshots, steps run by `chroot` in the mounted
//! root. They need root.

mod bench;
mod caching;
mod contexts;
mod copying;
mod hostile;
mod output;
mod running;
mod stages;
