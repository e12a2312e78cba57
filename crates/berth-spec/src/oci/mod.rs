//! Documents of the Open Container Initiative: images (image-spec 1.1) and runtime bundles
//! (runtime-spec 1.2).

pub mod image;
pub mod runtime;
